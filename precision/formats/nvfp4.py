"""NVFP4 tensors: E2M1 values, an E4M3 scale for each block of 16 along the last axis, one FP32 scale over all.

The layout is that of ModelOpt's exports (`quant_algo: NVFP4`): for a weight of N outputs and K inputs

- `weight` uint8 [N, K/2]: two E2M1 codes a byte, the one with the lower index in the low nibble;
- `weight_scale` E4M3 [N, K/16]: kept as its codes, uint8;
- `weight_scale_2` float32 []: for the tensor.

A value is its E2M1 number * block scale * tensor scale. Activations have one FP32 scale a row (token) instead of one
for the tensor: it is found while running, and a row must not depend on the rows computed beside it.
"""

from dataclasses import dataclass

import numpy as np

from precision.formats.minifloat import E2M1, E4M3, SMALLEST_SCALE, Bytes, Float32s, require_finite

BLOCK = 16
"""Values that share one E4M3 scale."""

_SCALE_RANGE = np.float32(E2M1.largest * E4M3.largest)
# A block never has scale 0, which would have to be kept from dividing: it gets the least E4M3 number instead.
_SMALLEST_BLOCK_SCALE = E4M3.table[1]


@dataclass(frozen=True)
class Nvfp4Tensor:
    """`packed` uint8 [..., K/2]; `block_scale` E4M3 codes, uint8 [..., K/16]; `scale` float32 [] or [..., 1]."""

    packed: Bytes
    block_scale: Bytes
    scale: Float32s


def quantize(values: Float32s, *, per_row: bool = False) -> Nvfp4Tensor:
    """Quantizes [..., K], K a multiple of 16.

    The FP32 scale maps the greatest magnitude (of each row, or of all) to 6 * 448; a block's scale is its greatest
    magnitude / 6, in units of the FP32 scale, rounded to E4M3; values are divided by both and rounded to E2M1.

    Raises:
        ValueError: an infinity or NaN is among the values, or K is not a multiple of 16.
    """
    require_finite(values, "NVFP4")
    if values.shape[-1] % BLOCK:
        raise ValueError(f"NVFP4 needs a last axis that is a multiple of {BLOCK}; got shape {values.shape}")
    blocks = values.reshape(*values.shape[:-1], -1, BLOCK)
    block_amax = np.abs(blocks).max(axis=-1)
    amax = block_amax.max(axis=-1, keepdims=True) if per_row else block_amax.max()
    scale = np.asarray(np.maximum(amax / _SCALE_RANGE, SMALLEST_SCALE), dtype=np.float32)
    block_ratio = np.maximum(block_amax / E2M1.largest / scale, _SMALLEST_BLOCK_SCALE)
    block_scale = E4M3.encode(np.asarray(block_ratio, dtype=np.float32))
    divisor: Float32s = E4M3.decode(block_scale) * scale
    codes = E2M1.encode(blocks / divisor[..., None]).reshape(values.shape)
    return Nvfp4Tensor(packed=pack(codes), block_scale=block_scale, scale=scale)


def dequantize(tensor: Nvfp4Tensor) -> Float32s:
    """float32 values [..., K]."""
    scales = E4M3.decode(tensor.block_scale) * tensor.scale
    values = np.take(_PAIRS, tensor.packed, axis=0).reshape(*scales.shape, BLOCK)
    np.multiply(values, scales[..., None], out=values)
    return values.reshape(*tensor.packed.shape[:-1], -1)


def pack(codes: Bytes) -> Bytes:
    """E2M1 codes (0 to 15) [..., K] to bytes [..., K/2], the lower index in the low nibble."""
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))


def unpack(packed: Bytes) -> Bytes:
    """Bytes [..., K/2] to E2M1 codes [..., K]."""
    return np.stack((packed & np.uint8(0x0F), packed >> np.uint8(4)), axis=-1).reshape(*packed.shape[:-1], -1)


# The two values of each byte: [256, 2].
_PAIRS: Float32s = E2M1.decode(unpack(np.arange(256, dtype=np.uint8)[:, None]))


def fake_quantize_rows(values: Float32s) -> Float32s:
    """Rounds activations [rows, K] to NVFP4 with an FP32 scale a row, in place, and returns them.

    The bits are those of `dequantize(quantize(values, per_row=True))`. Each row depends on itself alone. `values` must
    be contiguous and finite; this is the hot path, and does not look.
    """
    rows = values.shape[0]
    blocks = values.reshape(rows, -1, BLOCK)
    scratch = np.abs(blocks)
    block_scale = scratch.max(axis=-1)
    scale = block_scale.max(axis=-1, keepdims=True)
    np.divide(scale, _SCALE_RANGE, out=scale)
    np.maximum(scale, SMALLEST_SCALE, out=scale)
    np.divide(block_scale, E2M1.largest, out=block_scale)
    np.divide(block_scale, scale, out=block_scale)
    np.maximum(block_scale, _SMALLEST_BLOCK_SCALE, out=block_scale)
    block_scale = E4M3.round_into(block_scale, np.empty_like(block_scale))
    np.multiply(block_scale, scale, out=block_scale)
    np.divide(blocks, block_scale[..., None], out=blocks)
    rounded = E2M1.round_into(blocks, np.empty_like(blocks), scratch)
    np.multiply(rounded, block_scale[..., None], out=blocks)
    return values
