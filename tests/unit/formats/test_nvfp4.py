"""NVFP4 tensors: layout, hand-worked blocks, exactness, and the in-place form of the hot path."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from precision.formats import nvfp4
from precision.formats.minifloat import E2M1, E4M3, Float32s

rows = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 3).map(lambda blocks: 16 * blocks)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@settings(max_examples=50, deadline=None)
@given(rows)
def test_the_hot_path_gives_the_bits_of_the_packed_round_trip(values: Float32s) -> None:
    packed = nvfp4.dequantize(nvfp4.quantize(values, per_row=True))
    assert nvfp4.fake_quantize_rows(values.copy()).tobytes() == packed.tobytes()


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9).map(lambda n: 2 * n)), elements=st.integers(0, 15)
    )
)
def test_unpacking_undoes_packing(codes: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
    assert np.array_equal(nvfp4.unpack(nvfp4.pack(codes)), codes)


def test_the_lower_index_is_in_the_low_nibble() -> None:
    assert nvfp4.pack(np.array([[0x1, 0xF, 0x0, 0x7]], dtype=np.uint8)).tolist() == [[0xF1, 0x70]]


def test_a_block_worked_by_hand() -> None:
    # Tensor scale 2688 / (6 * 448) = 1. First block: greatest 2688, scale 448. Second: greatest 6, scale 1.
    first = [2688.0, -1344.0, 448.0, 224.0, 112.0, 0.0] + [0.0] * 10
    second = [6.0, 5.0, 2.5, -3.5, 0.25, 0.75, -0.25, 1.75] + [0.0] * 8
    tensor = nvfp4.quantize(np.array([first + second], dtype=np.float32))
    assert tensor.scale.shape == ()
    assert tensor.scale == 1
    assert E4M3.decode(tensor.block_scale).tolist() == [[448.0, 1.0]]
    numbers = E2M1.decode(nvfp4.unpack(tensor.packed))[0].tolist()
    assert numbers[:6] == [6, -3, 1, 0.5, 0, 0]  # 112 / 448 = 0.25 is a tie, and goes to 0
    assert numbers[16:24] == [6, 4, 2, -4, 0, 1, 0, 2]
    assert tensor.packed[0, 0] == 0x7 | 0xD << 4  # 6 is code 7, -3 is 8 + 5
    assert tensor.packed.shape == (1, 16)
    assert nvfp4.dequantize(tensor)[0, :4].tolist() == [2688, -1344, 448, 224]


def test_a_block_scale_is_rounded_and_its_values_saturate() -> None:
    values = np.zeros((1, 32), dtype=np.float32)
    values[0, 0] = 2688
    values[0, 16] = 6 * 1.0625  # the scale 1.0625 is a tie between 1 and 1.125, and becomes 1
    tensor = nvfp4.quantize(values)
    assert E4M3.decode(tensor.block_scale)[0, 1] == 1
    assert nvfp4.dequantize(tensor)[0, 16] == 6


def test_blocks_of_zeros_and_of_far_smaller_values() -> None:
    values = np.zeros((1, 48), dtype=np.float32)
    values[0, 0] = 2688
    values[0, 16] = 2.0**-9 * 6  # the least block scale, 2**-9, still holds it
    tensor = nvfp4.quantize(values)
    assert tensor.block_scale.tolist() == [[0x7E, 0x01, 0x01]]
    again = nvfp4.dequantize(tensor)
    assert again[0, 16] == values[0, 16]
    assert not again[0, 32:].any()
    zeros = np.zeros((2, 16), dtype=np.float32)
    assert nvfp4.dequantize(nvfp4.quantize(zeros)).tolist() == zeros.tolist()
    assert nvfp4.fake_quantize_rows(zeros.copy()).tolist() == zeros.tolist()


def test_the_bytes_are_those_that_ml_dtypes_would_give() -> None:
    values = np.random.default_rng(2).standard_normal((64, 96), dtype=np.float32)
    tensor = nvfp4.quantize(values)
    blocks = values.reshape(64, 6, 16)
    scale = np.float32(np.abs(values).max() / np.float32(2688))
    block_scale = (np.abs(blocks).max(axis=-1) / np.float32(6) / scale).astype(ml_dtypes.float8_e4m3fn)
    divided = blocks / (block_scale.astype(np.float32) * scale)[..., None]
    codes = np.clip(divided, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8).reshape(64, 96)
    assert np.array_equal(tensor.block_scale, block_scale.view(np.uint8))
    assert np.array_equal(tensor.packed, codes[:, 0::2] | codes[:, 1::2] << 4)


def test_a_row_does_not_depend_on_the_others() -> None:
    values = np.random.default_rng(3).standard_normal((16, 576), dtype=np.float32)
    together = nvfp4.fake_quantize_rows(values.copy())
    for i in range(16):
        assert nvfp4.fake_quantize_rows(values[i : i + 1].copy()).tobytes() == together[i].tobytes()


def test_what_cannot_be_quantized_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found nan at index \(0, 3\)"):
        nvfp4.quantize(np.array([[0, 0, 0, np.nan] + [0] * 12], dtype=np.float32))
    with pytest.raises(ValueError, match=r"a multiple of 16; got shape \(2, 24\)"):
        nvfp4.quantize(np.zeros((2, 24), dtype=np.float32))
