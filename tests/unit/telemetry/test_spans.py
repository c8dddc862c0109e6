"""Spans passed by hand: parents, links, ids, ends; and nothing on them that is not on the list."""

import ast
from pathlib import Path
from typing import cast

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from telemetry.attributes import ALLOWED_ON_SPANS, MAX_TEXT, SpanAttributes
from telemetry.context import TraceContext, parse
from telemetry.spans import Spans, attempt_span_id
from tests.unit.telemetry.memory import NOT_SAMPLED, SAMPLED, Memory, ids

_ROOT = Path(__file__).resolve().parents[3]
# How OpenTelemetry puts things onto spans.
_WRITERS = frozenset(
    {"set_attribute", "set_attributes", "add_event", "add_link", "record_exception", "update_name", "set_status"}
    | {"start_span", "start_as_current_span", "use_span"}
)


def test_no_attribute_outside_the_list_gets_onto_a_span() -> None:
    memory = Memory.make()
    wild = cast("SpanAttributes", {"prompt": "canary", "gen_ai.input.messages": "canary", "rpc.method": "a/B"})
    span = memory.spans.serve("a/B", TraceContext(), wild)
    span.set(wild)
    span.child("decide", attributes=wild).end()
    span.end()
    for finished in memory.exporter.get_finished_spans():
        assert set(finished.attributes or {}) == {"rpc.method"}
        assert finished.events == ()


def test_the_list_names_no_content() -> None:
    forbidden = {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.call"}
    forbidden |= {"gen_ai.request.stop_sequences", "exception.message", "exception.stacktrace"}
    assert not ALLOWED_ON_SPANS & forbidden
    assert not [name for name in ALLOWED_ON_SPANS if "prompt.text" in name or "completion" in name.split(".")]


def test_only_one_module_touches_the_spans_of_opentelemetry() -> None:
    """So the gate in `telemetry.spans` is the only way onto a span."""
    found: set[tuple[str, str]] = set()
    for package in ("router", "workers", "broker", "telemetry", "classifier", "precision", "bitlane"):
        for path in (_ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in _WRITERS:
                    found.add((path.relative_to(_ROOT).as_posix(), node.attr))
    outside = {(path, name) for path, name in found if path != "telemetry/spans.py"}
    assert outside == set()
    assert {name for path, name in found if path == "telemetry/spans.py"} == {
        "set_attributes",
        "set_status",
        "start_span",
    }


def test_an_exception_leaves_its_class_and_never_its_text() -> None:
    memory = Memory.make()

    class Fault(Exception):
        reason = "FIELD_INVALID"

    for error in (ValueError("canary"), Fault("canary")):
        with pytest.raises(type(error)), memory.spans.serve("a/B", TraceContext(), {}):
            raise error
    first, second = memory.exporter.get_finished_spans()
    assert [span.attributes for span in (first, second)] == [
        {"error.type": "ValueError"},
        {"error.type": "FIELD_INVALID"},
    ]
    assert first.status.status_code is StatusCode.ERROR
    assert not first.status.description
    assert "canary" not in first.to_json() + second.to_json()


def test_a_child_is_a_child_and_ends_once() -> None:
    memory = Memory.make()
    root = memory.spans.serve("a/B", TraceContext(SAMPLED, "a=1"), {"rpc.method": "a/B"})
    with root.child("submit", SpanKind.PRODUCER) as child:
        context = child.context
    child.end("late")
    root.end()
    root.end("again")
    finished = memory.finished
    assert len(memory.exporter.get_finished_spans()) == 2
    assert finished["a/B"].kind is SpanKind.SERVER
    parent, server = finished["submit"].parent, finished["a/B"].parent
    assert parent is not None
    assert server is not None
    assert parent.span_id == ids(finished["a/B"]).span_id
    assert server.is_remote
    assert f"{server.span_id:016x}" == SAMPLED.split("-")[2]
    assert context.traceparent == f"00-{SAMPLED.split('-')[1]}-{ids(finished['submit']).span_id:016x}-01"
    assert context.tracestate == "a=1"
    assert finished["submit"].status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("spans", [Spans(), Memory.make(parent_decides=True).spans])
def test_what_is_not_recorded_passes_its_place_on(spans: Spans) -> None:
    caller = TraceContext(NOT_SAMPLED, "a=1")
    root = spans.serve("a/B", caller, {"rpc.method": "a/B"})
    with root.child("submit") as child:
        child.set({"bitlane.pool": "m/fp4"})
        assert not child.recording
        assert child.context == caller
    root.end("INTERNAL")


def test_without_a_tracer_there_is_no_context_to_pass_on() -> None:
    root = Spans().serve("a/B", TraceContext(), {})
    assert (root.recording, root.context, root.where) == (False, TraceContext(), None)


def test_long_texts_are_cut() -> None:
    from telemetry.setup import Telemetry  # noqa: PLC0415  # needs an endpoint, which nobody listens at

    telemetry = Telemetry("test", "1", {}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1", **_ALL})
    span = telemetry.spans.serve("a/B", TraceContext(), {"bitlane.decision.rule": "x" * 10_000})
    assert telemetry.span_queue is not None
    kept: list[int] = []
    telemetry.span_queue.on_end = lambda span: kept.append(len(str((span.attributes or {})["bitlane.decision.rule"])))
    span.end()
    telemetry.close()
    assert kept == [MAX_TEXT]


_ALL = {"OTEL_TRACES_SAMPLER": "always_on"}


def test_the_id_of_an_attempt_follows_from_its_job_and_epoch() -> None:
    one, other = parse(TraceContext(SAMPLED)), parse(TraceContext(SAMPLED.replace("3331", "3332")))
    assert one is not None
    assert other is not None
    assert attempt_span_id(one, 1) == attempt_span_id(one, 1)
    assert len({attempt_span_id(one, 1), attempt_span_id(one, 2), attempt_span_id(other, 1)}) == 3
    assert 0 < attempt_span_id(one, 1) < 1 << 64
