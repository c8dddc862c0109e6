"""FP8 E4M3 tensors with an FP32 scale: one for the whole tensor, or one a row.

A row is an output channel of a weight (as in compressed-tensors' `float-quantized` with strategy `channel`) or a token
of an activation (strategy `token`, dynamic). One scale for the tensor is ModelOpt's `FP8` layout.
"""

from dataclasses import dataclass

import numpy as np

from precision.formats.minifloat import E4M3, SMALLEST_SCALE, Bytes, Float32s, require_finite


@dataclass(frozen=True)
class Fp8Tensor:
    """`codes` uint8 [..., K] in E4M3; `scale` float32, [..., 1] (a row) or [] (the tensor). Value = code's * scale."""

    codes: Bytes
    scale: Float32s


def quantize(values: Float32s, *, per_row: bool) -> Fp8Tensor:
    """Scales so that the greatest magnitude, of each row or of all, becomes 448, and rounds to E4M3.

    Raises:
        ValueError: an infinity or NaN is among the values.
    """
    require_finite(values, "FP8")
    magnitude = np.abs(values)
    amax = magnitude.max(axis=-1, keepdims=True) if per_row else magnitude.max()
    scale = np.asarray(np.maximum(amax / E4M3.largest, SMALLEST_SCALE), dtype=np.float32)
    return Fp8Tensor(codes=E4M3.encode(values / scale), scale=scale)


def dequantize(tensor: Fp8Tensor) -> Float32s:
    """float32 values, in the shape of the codes."""
    return E4M3.decode(tensor.codes) * tensor.scale


def fake_quantize_rows(values: Float32s) -> Float32s:
    """Rounds activations [rows, K] to FP8 with a scale a row, in place, and returns them.

    The bits are those of `dequantize(quantize(values, per_row=True))`. Each row depends on itself alone. Values must be
    finite; this is the hot path, and does not look.
    """
    scratch = np.abs(values)
    scale = scratch.max(axis=-1, keepdims=True)
    np.divide(scale, E4M3.largest, out=scale)
    np.maximum(scale, SMALLEST_SCALE, out=scale)
    np.divide(values, scale, out=values)
    rounded = E4M3.round_into(values, np.empty_like(values), scratch)
    return np.multiply(rounded, scale, out=values)
