"""Trace context from strangers: what is valid goes on, what is not is as if it were not there."""

import pytest

from telemetry.context import TraceContext, parse, strings
from tests.unit.telemetry.memory import NOT_SAMPLED, SAMPLED


@pytest.mark.parametrize("parent", [SAMPLED, NOT_SAMPLED])
@pytest.mark.parametrize("state", ["", "congo=t61rcWkgMzE", "a=1,b=2"])
def test_a_valid_context_goes_through_unchanged(parent: str, state: str) -> None:
    context = TraceContext(parent, state)
    assert strings(parse(context)) == context


def test_a_later_version_is_read_by_the_rules_of_this_one() -> None:
    parsed = parse(TraceContext(SAMPLED.replace("00-", "cc-", 1) + "-what-comes-later"))
    assert parsed is not None
    assert strings(parsed).traceparent == SAMPLED


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "x",
        SAMPLED + "-more",
        SAMPLED[:-1],
        SAMPLED.upper(),
        SAMPLED.replace("00-", "ff-", 1),
        SAMPLED.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        SAMPLED.replace("b7ad6b7169203331", "0" * 16),
        SAMPLED + "\n",
        "0٠-" + SAMPLED[3:],
        "00-" + "0" * 100_000,
    ],
)
def test_what_is_no_context_is_none(parent: str) -> None:
    assert parse(TraceContext(parent)) is None


@pytest.mark.parametrize("state", ["no pairs", "=", "a=1," * 200, "a=\x00"])
def test_a_bad_state_does_not_cost_the_parent(state: str) -> None:
    parsed = parse(TraceContext(SAMPLED, state))
    assert parsed is not None
    assert strings(parsed).traceparent == SAMPLED


def test_it_is_found_among_the_metadata() -> None:
    metadata = [("authorization", "Bearer x"), ("traceparent", SAMPLED), ("tracestate", "a=1"), ("tracestate", "b=2")]
    context = TraceContext.from_metadata(metadata)
    assert context == (SAMPLED, "a=1,b=2")
    assert context.headers() == {"traceparent": SAMPLED, "tracestate": "a=1,b=2"}
    assert TraceContext.from_metadata([("traceparent-bin", b"x"), ("traceparent", b"y")]).headers() == {}
