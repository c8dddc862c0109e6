"""Packs what was fitted into the file that the product ships: int8 where there are many, pruned, without pickle."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.weights import BLOCKS, DIGEST, WEIGHTS
from tools.classifier_training.fit import Fitted, Settings

Floats = NDArray[np.float32]


def pack(
    fitted: Fitted,
    settings: Settings,
    buckets: NDArray[np.int64],
    dense_statistics: tuple[Floats, Floats],
    words: Sequence[str],
    word_vectors: Floats,
    word_weight: Floats,
    calibration: tuple[float, float],
) -> dict[str, NDArray[np.generic]]:
    """The arrays of the file.

    Args:
        buckets: of which the rows of fitted.sparse are.
        dense_statistics: mean and deviation of the features made by hand.
        calibration: temperature, and the shift of the risk.
    """
    outputs = len(fitted.bias)
    table, scale = _quantized(fitted.sparse, buckets)
    used = np.abs(table).max(1) > 0
    by_hand = len(dense_statistics[0])
    # A linear model of a mean of vectors is a mean of scores: the vectors themselves need not ship.
    ends = fitted.dense[by_hand:].reshape(2, word_vectors.shape[1], outputs) * settings.vector_scale
    scores = np.stack([word_vectors @ ends[0], word_vectors @ ends[1]], 1)
    word_scale = np.abs(scores).max((0, 1)) / 127
    return {
        "bucket_steps": np.diff(buckets[used], prepend=0).astype(np.uint32),
        "table": table[used],
        "table_scale": scale,
        "dense": (fitted.dense[:by_hand] * settings.dense_scale).astype(np.float32),
        "dense_mean": dense_statistics[0],
        "dense_deviation": dense_statistics[1],
        "words": np.frombuffer("\n".join(words).encode(), np.uint8),
        "word_scores": np.rint(scores / word_scale).astype(np.int8),
        "word_scale": word_scale.astype(np.float32),
        "word_weight": word_weight.astype(np.float16),
        "bias": fitted.bias,
        "calibration": np.array(calibration, np.float32),
    }


def write(arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """The shipped file and its digest; the same arrays give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, one.getvalue(), zipfile.ZIP_DEFLATED, 9)
    WEIGHTS.write_bytes(content.getvalue())
    Path(DIGEST).write_text(hashlib.sha256(content.getvalue()).hexdigest() + "\n", encoding="ascii")


def _quantized(sparse: Floats, buckets: NDArray[np.int64]) -> tuple[NDArray[np.int8], Floats]:
    """int8 with one scale for each block of the table and output; the few largest weights are cut."""
    table = np.zeros(sparse.shape, np.int8)
    scale = np.ones((len(BLOCKS) - 1, sparse.shape[1]), np.float32)
    for block, (low, high) in enumerate(pairwise(BLOCKS)):
        rows = (buckets >= low) & (buckets < high)
        if rows.any():
            scale[block] = np.quantile(np.abs(sparse[rows]), 0.9998, axis=0) / 127 + 1e-12
            table[rows] = np.clip(np.rint(sparse[rows] / scale[block]), -127, 127).astype(np.int8)
    return table, scale
