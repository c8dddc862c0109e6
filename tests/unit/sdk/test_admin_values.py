"""How the values of `bitlane admin` are written."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitlane import Limits
from bitlane.cli import admin_values as values
from bitlane.cli.admin_report import flags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(days=1)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(days=14)),
        ("0", timedelta()),
        ("0h", timedelta()),
    ],
)
def test_durations(text: str, expected: timedelta):
    assert values.duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5", "h", "1.5h", "-1h", "1 h", "1H", "1y", "1h30m", "٣d", "99999999999w", "\n1h"]
)
def test_what_is_no_duration(text: str):
    with pytest.raises(ArgumentTypeError):
        values.duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:30", datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
        ("2026-11-01T12:30+02:00", datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
        ("2026-11-01T12:30Z", datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
    ],
)
def test_dates_are_of_utc_unless_they_say_otherwise(text: str, expected: datetime):
    assert values.past(text) == expected
    assert values.end(text) == expected


def test_durations_count_back_for_usage_and_forward_for_keys():
    now = datetime.now(UTC)
    assert now - timedelta(days=7) <= values.past("7d") <= datetime.now(UTC) - timedelta(days=7)
    expires = values.end("30d")
    assert expires is not None
    assert now + timedelta(days=30) <= expires <= datetime.now(UTC) + timedelta(days=30)
    assert values.end("never") is None


@pytest.mark.parametrize("text", ["never", "yesterday", "2026-13-01", "2026-11-31", "5000w0", "999999w", ""])
def test_what_is_no_moment(text: str):
    with pytest.raises(ArgumentTypeError):
        values.past(text)


@given(st.text())
def test_any_text_is_a_value_or_refused(text: str):
    readers: list[Callable[[str], object]] = [
        values.duration,
        values.past,
        values.end,
        values.count,
        values.budget,
        values.model_limits,
        values.scopes,
        values.dimensions,
    ]
    for read in readers:
        with suppress(ArgumentTypeError):
            read(text)


def test_limits():
    assert [values.count(text) for text in ("600", "0", "unlimited", "default")] == [600, 0, -1, None]
    assert [values.budget(text) for text in ("5.00", "0", "unlimited", "default")] == [Decimal(5), Decimal(0), -1, None]


@pytest.mark.parametrize("text", ["-1", "-5", "1.5", "six", "", "Unlimited", "1e3"])
def test_what_is_no_count(text: str):
    with pytest.raises(ArgumentTypeError, match="neither a bound such as 600 nor unlimited nor default"):
        values.count(text)


@pytest.mark.parametrize("text", ["-1", "-0.01", "five", "", "nan", "inf", "0.0000000001", "1e999999999", "$5"])
def test_what_is_no_budget(text: str):
    with pytest.raises(ArgumentTypeError, match="neither a bound such as"):
        values.budget(text)


def test_limits_of_a_model():
    assert values.model_limits("smollm2:tpm=5000,rpm=60") == (
        "smollm2",
        {"tokens_per_minute": 5000, "requests_per_minute": 60},
    )
    assert values.model_limits("llama3:8b:day-budget=0.50,queued=unlimited,tpm=default") == (
        "llama3:8b",
        {"day_budget": Decimal("0.5"), "queued_requests": -1, "tokens_per_minute": None},
    )
    model, unset = values.model_limits("smollm2:default")
    assert (model, Limits(**unset)) == ("smollm2", Limits())  # pyright: ignore[reportArgumentType]  # all None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smollm2", "is not MODEL:LIMIT=N"),
        (":tpm=1", "is not MODEL:LIMIT=N"),
        ("smollm2:", "'' is no limit; there are rpm, tpm"),
        ("smollm2:tps=1", "'tps' is no limit"),
        ("smollm2:tpm", "neither a bound"),
        ("smollm2:tpm=1,,rpm=2", "'' is no limit"),
    ],
)
def test_what_are_no_limits_of_a_model(text: str, said: str):
    with pytest.raises(ArgumentTypeError, match=said):
        values.model_limits(text)


def test_every_limit_can_be_named():
    assert {field for field, _, _ in values.LIMITS.values()} == set(Limits.__dataclass_fields__)


_count = st.none() | st.integers(-1, 2**63 - 1)
_budget = st.none() | st.just(-1) | st.decimals(min_value=0, max_value=9_000_000_000, places=9)
limits = st.builds(
    Limits,
    requests_per_minute=_count,
    tokens_per_minute=_count,
    concurrent_requests=_count,
    queued_requests=_count,
    day_budget=_budget,
    month_budget=_budget,
)


@given(limits)
def test_limits_are_shown_as_they_are_written(shown: Limits):
    written = ",".join(flags(shown)) or "default"
    _, bounds = values.model_limits(f"m:{written}")
    assert Limits(**bounds) == shown  # pyright: ignore[reportArgumentType]  # of the types of its fields


def test_lists():
    assert values.scopes("infer,read") == ["infer", "read"]
    assert values.dimensions("time,model") == ["time", "model"]
    assert values.dimensions("") == []
    assert values.models("a,b,") == ("a", "b")
    assert values.models("all") == ()
    with pytest.raises(ArgumentTypeError, match="'write' is none of infer, read, admin, operate"):
        values.scopes("infer,write")
