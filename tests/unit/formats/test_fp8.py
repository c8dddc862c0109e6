"""FP8 tensors: scales, exactness, and the in-place form of the hot path."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from precision.formats import fp8
from precision.formats.minifloat import Float32s

rows = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 20)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
)


@settings(max_examples=50, deadline=None)
@given(rows)
def test_the_hot_path_gives_the_bits_of_the_packed_round_trip(values: Float32s) -> None:
    packed = fp8.dequantize(fp8.quantize(values, per_row=True))
    assert fp8.fake_quantize_rows(values.copy()).tobytes() == packed.tobytes()


@settings(max_examples=50, deadline=None)
@given(rows)
def test_an_error_is_at_most_half_a_step(values: Float32s) -> None:
    again = fp8.dequantize(fp8.quantize(values, per_row=True))
    greatest = np.abs(values).max(axis=-1, keepdims=True)
    # Half of 2**-3 of the value, or half of the subnormal step, and the scale's own rounding.
    bound = np.maximum(np.abs(values) * (1 / 16), greatest / 448 * 2.0**-10) * 1.0001 + 1e-37
    assert (np.abs(again - values) <= bound).all()


def test_the_greatest_magnitude_of_a_row_becomes_448() -> None:
    values = np.array([[1, -2, 0.5], [100, 3, 7]], dtype=np.float32)
    tensor = fp8.quantize(values, per_row=True)
    assert tensor.scale.tolist() == np.array([[2 / 448], [100 / 448]], dtype=np.float32).tolist()
    assert tensor.codes[0, 1] == 0b1_1111_110
    assert tensor.codes[1, 0] == 0b0_1111_110


def test_one_scale_for_the_tensor() -> None:
    values = np.array([[448, 1], [-2, 3]], dtype=np.float32)
    tensor = fp8.quantize(values, per_row=False)
    assert tensor.scale.shape == ()
    assert fp8.dequantize(tensor).tolist() == values.tolist()


def test_zeros_stay_zeros() -> None:
    zeros = np.zeros((2, 4), dtype=np.float32)
    assert fp8.dequantize(fp8.quantize(zeros, per_row=True)).tolist() == zeros.tolist()
    assert fp8.fake_quantize_rows(zeros.copy()).tolist() == zeros.tolist()


def test_a_row_does_not_depend_on_the_others() -> None:
    values = np.random.default_rng(1).standard_normal((16, 576), dtype=np.float32)
    together = fp8.fake_quantize_rows(values.copy())
    for i in range(16):
        assert fp8.fake_quantize_rows(values[i : i + 1].copy()).tobytes() == together[i].tobytes()


def test_infinities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found inf at index \(0, 1\)"):
        fp8.quantize(np.array([[0, np.inf]], dtype=np.float32), per_row=True)
