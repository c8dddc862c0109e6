"""The shipped weights: one file of plain arrays, checked against its digest, loaded without pickle."""

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.features import BUCKETS, GRAMS_AT, PAIRS_AT, Floats
from precision.tasks import Task

WEIGHTS = Path(__file__).parent / "data" / "weights.npz"
DIGEST = WEIGHTS.with_suffix(".sha256")
OUTPUTS = len(Task) + 1  # a score for each task class, and the risk
BLOCKS = (0, 1 << 15, PAIRS_AT, GRAMS_AT, BUCKETS)  # of the table; each has a scale for each output


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear model over `features.Row`."""

    table: Floats  # [BUCKETS, OUTPUTS]
    dense: Floats  # [dense features, OUTPUTS], for features brought to mean 0 and deviation 1
    dense_mean: Floats
    dense_deviation: Floats
    words: dict[str, int]  # word -> row of the next two
    word_scores: Floats  # [words, 2, OUTPUTS]: in the whole prompt, and at its ends; weighted by the next
    word_weight: Floats  # rare words weigh more
    bias: Floats  # [OUTPUTS]
    temperature: float  # of the class scores
    risk_shift: float  # added to the log-odds of the risk, so that the threshold lies at 0


class BadWeightsError(Exception):
    """The weights are not those that training wrote."""


@cache
def shipped() -> Weights:
    """Reads the shipped weights once.

    Raises:
        BadWeightsError: the file is missing, or is not the one that the digest names.
    """
    return load(WEIGHTS, DIGEST)


def load(path: Path, digest: Path) -> Weights:
    """Raises BadWeightsError when a file is missing or the two do not fit."""
    try:
        content, expected = path.read_bytes(), digest.read_text(encoding="ascii").strip()
    except OSError as error:
        raise BadWeightsError(f"{path}: {error}; run `make train-classifier`, or check the file out again") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise BadWeightsError(f"{path}: the content is not what {digest.name} names; check both files out again")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        table = np.zeros((BUCKETS, OUTPUTS), np.float32)
        buckets: NDArray[np.int64] = np.cumsum(arrays["bucket_steps"], dtype=np.int64)
        block = np.searchsorted(BLOCKS, buckets, side="right") - 1
        table[buckets] = arrays["table"].astype(np.float32) * arrays["table_scale"][block]
        words = bytes(arrays["words"]).decode().split("\n")
        scores = arrays["word_scores"].astype(np.float32) * arrays["word_scale"]
        temperature, risk_shift = (float(value) for value in arrays["calibration"])
        return Weights(
            table=table,
            dense=arrays["dense"],
            dense_mean=arrays["dense_mean"],
            dense_deviation=arrays["dense_deviation"],
            words={word: row for row, word in enumerate(words)},
            word_scores=scores.reshape(len(words), 2, OUTPUTS),
            word_weight=arrays["word_weight"].astype(np.float32),
            bias=arrays["bias"],
            temperature=temperature,
            risk_shift=risk_shift,
        )
