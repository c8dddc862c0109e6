"""The key/value cache: one pair of arrays for each running sequence, within a budget of tokens."""

import numpy as np

from precision.formats.minifloat import Float32s
from workers.engines.reference.sources import Architecture

BLOCK = 64
"""Attention reads whole blocks of positions, so arrays are that long, too."""


class KvCache:
    """Keys and values of one sequence: float32 [layers, kv_heads, capacity, head_size], zero where nothing was written.

    Positions past the last written one must stay finite: attention multiplies them by zero.
    """

    __slots__ = ("capacity", "keys", "values")

    def __init__(self, architecture: Architecture, tokens: int) -> None:
        self.capacity = rounded(tokens)
        shape = (architecture.layers, architecture.kv_heads, self.capacity, architecture.head_size)
        self.keys: Float32s = np.zeros(shape, dtype=np.float32)
        self.values: Float32s = np.zeros(shape, dtype=np.float32)


def rounded(tokens: int) -> int:
    """Positions that a sequence of so many tokens takes."""
    return -(-tokens // BLOCK) * BLOCK
