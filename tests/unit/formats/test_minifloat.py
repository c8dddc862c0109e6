"""E4M3 and E2M1 against ml_dtypes, and against values worked out by hand."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision.formats.minifloat import E2M1, E4M3, Float32s, MiniFloat

FORMATS = [(E4M3, ml_dtypes.float8_e4m3fn), (E2M1, ml_dtypes.float4_e2m1fn)]
both = pytest.mark.parametrize(("form", "oracle"), FORMATS, ids=["E4M3", "E2M1"])


def values(*numbers: float) -> Float32s:
    return np.array(numbers, dtype=np.float32)


@both
def test_every_code_has_the_value_that_ml_dtypes_gives_it(form: MiniFloat, oracle: type) -> None:
    codes = np.arange(2 * form.sign_bit, dtype=np.uint8)
    assert np.array_equal(form.decode(codes), codes.view(oracle).astype(np.float32), equal_nan=True)


@both
def test_every_value_and_midpoint_rounds_as_in_ml_dtypes(form: MiniFloat, oracle: type) -> None:
    grid = np.unique(form.table[np.isfinite(form.table)])
    middles = (grid[1:] + grid[:-1]) / 2
    tried = np.concatenate(
        [grid, middles, *(np.nextafter(x, d, dtype=np.float32) for x in (grid, middles) for d in (9e9, -9e9))]
    )
    tried = np.clip(tried, -form.largest, form.largest).astype(np.float32)
    expected = tried.astype(np.dtype(oracle))
    assert np.array_equal(form.encode(tried), expected.view(np.uint8))
    rounded = form.round_into(tried, np.empty_like(tried))
    assert np.array_equal(rounded.view(np.uint32), expected.astype(np.float32).view(np.uint32))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_any_finite_value_rounds_as_in_ml_dtypes_after_saturation(numbers: list[float]) -> None:
    for form, oracle in FORMATS:
        tried = values(*numbers)
        expected = np.clip(tried, -form.largest, form.largest).astype(oracle)
        assert np.array_equal(form.encode(tried), expected.view(np.uint8))


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.25, 0.0),  # a tie goes to the even mantissa
        (0.75, 1.0),
        (1.25, 1.0),
        (1.75, 2.0),
        (2.5, 2.0),
        (3.5, 4.0),
        (5.0, 4.0),
        (5.0001, 6.0),
        (7.0, 6.0),  # saturates
        (-1e9, -6.0),
        (0.2500001, 0.5),  # the subnormal step
    ],
)
def test_e2m1_by_hand(value: float, rounded: float) -> None:
    assert E2M1.round_into(values(value), np.empty(1, np.float32)) == rounded


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (1.0, 0b0_0111_000),
        (-1.125, 0b1_0111_001),
        (448.0, 0b0_1111_110),
        (464.0, 0b0_1111_110),  # midway to what would be 480: saturates
        (1e30, 0b0_1111_110),
        (2.0**-6, 0b0_0001_000),  # the smallest normal number
        (2.0**-9, 0b0_0000_001),  # the smallest subnormal one
        (2.0**-10, 0),  # a tie goes to the even one, zero
        (1.5 * 2.0**-9, 0b0_0000_010),
        (1.0625, 0b0_0111_000),  # ties
        (1.1875, 0b0_0111_010),
        (-0.0, 0b1_0000_000),
    ],
)
def test_e4m3_by_hand(value: float, code: int) -> None:
    assert E4M3.encode(values(value)) == code


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@both
def test_what_is_not_finite_is_refused_and_its_place_told(form: MiniFloat, oracle: type, bad: float) -> None:
    del oracle
    with pytest.raises(ValueError, match=rf"{form.name} holds only finite values; found -?(inf|nan) at index \(1,\)"):
        form.encode(values(0, bad, 1))
