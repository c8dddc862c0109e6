"""Money is exact, whatever the caller's own decimal context does."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitlane.money import from_nanos, to_nanos, to_text

INT64 = 2**63 - 1


@given(st.integers(0, INT64), st.integers(1, 40))
def test_nanos_survive_both_ways_in_any_context(nanos: int, precision: int):
    with localcontext() as context:
        context.prec = precision
        assert to_nanos(from_nanos(nanos)) == nanos


@given(st.integers(0, 2**64 - 1))
def test_amounts_are_written_short_and_without_exponents(nanos: int):
    text = str(to_text(from_nanos(nanos)))
    assert Decimal(text) * 10**9 == nanos
    assert "E" not in text
    assert not (("." in text) and text.endswith(("0", ".")))


@given(st.decimals(min_value=0, max_value=9_000_000_000, places=9))
def test_nine_decimals_fit(amount: Decimal):
    assert from_nanos(to_nanos(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "nanos"),
    [
        (Decimal("5.00"), 5_000_000_000),
        (5, 5_000_000_000),
        (Decimal("1E-9"), 1),
        (Decimal("1.50000000000000000000000"), 1_500_000_000),
        (Decimal("0E-999999999"), 0),
        (Decimal("9223372036.854775807"), INT64),
        (Decimal("-1.25"), -1_250_000_000),
    ],
)
def test_some_amounts(amount: Decimal | int, nanos: int):
    assert to_nanos(amount) == nanos


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("0.0000000001", "at most 9 decimals"),
        ("1E-999999999", "at most 9 decimals"),
        ("10000000000", "below 10 billion"),
        ("1E+999999999", "below 10 billion"),
        ("NaN", "is a number"),
        ("sNaN", "is a number"),
        ("-Infinity", "is a number"),
    ],
)
def test_what_is_no_exact_amount_is_refused_at_once(amount: str, said: str):
    with pytest.raises(ValueError, match=said):
        to_nanos(Decimal(amount))
