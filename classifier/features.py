"""A prompt as numbers: hashed words, pairs of words and character n-grams, and features made by hand.

Everything here is the same for training and for serving. Case, the values of digits and runs
of white space hardly count.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from classifier.byhand import by_hand
from classifier.prompt import Prompt

WORD_BITS, PAIR_BITS, GRAM_BITS = 15, 16, 16
WORDS_AT, ASKED_AT = 0, 1 << WORD_BITS
PAIRS_AT = ASKED_AT + (1 << WORD_BITS)
GRAMS_AT = PAIRS_AT + (1 << PAIR_BITS)
BUCKETS = GRAMS_AT + (1 << GRAM_BITS)

_ASKED_WORDS = 16  # at each end of the prompt: where the request stands when a text is pasted
_GRAM_CHARACTERS = 1_000  # at each end
_GRAM_LENGTHS = (3, 4, 5)
_MIX = 0x9E3779B1

_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")
_SPACE = re.compile(r"\s+")
_DIGITS = re.compile(r"\d+")

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt."""

    buckets: Indices  # distinct; below BUCKETS
    values: Floats  # one for each bucket
    dense: Floats
    words: Sequence[str]  # lower case, for the word vectors
    asked: Sequence[str]  # those at the two ends


def extract(prompt: Prompt) -> Row:
    """The features of a prompt. Takes any text, lone surrogates and NUL too."""
    lowered = prompt.text.lower()
    words = _WORD.findall(lowered)
    hashes = np.fromiter(map(_hash, words), np.int64, len(words))
    if len(words) <= 2 * _ASKED_WORDS:
        asked, asked_hashes = words, hashes
    else:
        asked = words[:_ASKED_WORDS] + words[-_ASKED_WORDS:]
        asked_hashes = np.concatenate((hashes[:_ASKED_WORDS], hashes[-_ASKED_WORDS:]))
    ends = hashes
    if len(hashes) > 4 * _ASKED_WORDS:
        ends = np.concatenate((hashes[: 2 * _ASKED_WORDS], hashes[-2 * _ASKED_WORDS :]))
    blocks = (
        (WORDS_AT, WORD_BITS, hashes),
        (ASKED_AT, WORD_BITS, asked_hashes),
        (PAIRS_AT, PAIR_BITS, (ends[:-1] * _MIX + ends[1:]) & 0xFFFFFFFF),
        (GRAMS_AT, GRAM_BITS, _grams(lowered)),
    )
    buckets: list[Indices] = []
    values: list[Floats] = []
    for start, bits, found in blocks:
        there = np.zeros(1 << bits, bool)  # cheaper than sorting
        there[((found * _MIX) & 0xFFFFFFFF) >> (32 - bits)] = True
        distinct = np.flatnonzero(there)
        buckets.append(distinct + start)
        values.append(np.full(len(distinct), 1.0 / np.sqrt(max(len(distinct), 4)), np.float32))
    return Row(
        np.concatenate(buckets),
        np.concatenate(values),
        by_hand(prompt, lowered, words, asked),
        words,
        asked,
    )


@lru_cache(maxsize=1 << 14)
def _hash(word: str) -> int:
    return zlib.crc32(b"0" if word[0].isdigit() else word.encode("utf-8", "replace"))


def _grams(lowered: str) -> Indices:
    """Hashes of all runs of three to five bytes."""
    if len(lowered) > 2 * _GRAM_CHARACTERS:
        lowered = lowered[:_GRAM_CHARACTERS] + " " + lowered[-_GRAM_CHARACTERS:]
    text = " " + _DIGITS.sub("0", _SPACE.sub(" ", lowered)) + " "
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64)
    found: list[Indices] = []
    rolled = data
    for length in range(2, max(_GRAM_LENGTHS) + 1):
        if len(data) < length:
            break
        rolled = (rolled[: len(data) - length + 1] * 0x01000193 + data[length - 1 :]) & 0xFFFFFFFF
        if length in _GRAM_LENGTHS:
            found.append((rolled + length * 0x85EBCA6B) & 0xFFFFFFFF)
    return np.concatenate(found) if found else np.zeros(0, np.int64)
