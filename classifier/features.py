"""A prompt as numbers: hashed words, pairs of words and character n-grams, and features made by hand.

Everything here is the same for training and for serving. Case, the values of digits and runs
of white space hardly count.
"""

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from classifier.byhand import by_hand
from classifier.prompt import Prompt

WORD_BITS, PAIR_BITS, GRAM_BITS = 15, 16, 16
WORDS_AT, ASKED_AT = 0, 1 << WORD_BITS
PAIRS_AT = ASKED_AT + (1 << WORD_BITS)
GRAMS_AT = PAIRS_AT + (1 << PAIR_BITS)
BUCKETS = GRAMS_AT + (1 << GRAM_BITS)
_EDGES = np.array([WORDS_AT, ASKED_AT, PAIRS_AT, GRAMS_AT, BUCKETS], np.uint32)
_REMEMBERED = 1 << 14  # words; most of a prompt has been seen before

_ASKED_WORDS = 16  # at each end of the prompt: where the request stands when a text is pasted
_GRAM_CHARACTERS = 1_000  # at each end
_GRAM_LENGTHS = (3, 4, 5)
_MIX = 0x9E3779B1
_GRAM_MIX, _ROLL = np.uint32(_MIX), np.uint32(0x01000193)
_GRAM_SHIFT, _GRAMS_START = np.uint32(32 - GRAM_BITS), np.uint32(GRAMS_AT)
_OF_LENGTH = {length: np.uint32(length * 0x85EBCA6B & 0xFFFFFFFF) for length in _GRAM_LENGTHS}

_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")
_ASCII_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*|[0-9]+")  # the same for lower-case ASCII, at half the price
_DIGITS = re.compile(r"\d+")
_SAME_SPACES_AND_DIGITS = bytes(
    ord(" ") if chr(code).isspace() else ord("0") if chr(code).isdigit() else code for code in range(128)
).ljust(256, b"?")

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
_Hashes = NDArray[np.uint32]


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
    words = (_ASCII_WORD if lowered.isascii() else _WORD).findall(lowered)
    asked = _ends(words, _ASKED_WORDS)
    buckets, values = _sparse(lowered, words, asked)
    return Row(buckets, values, by_hand(prompt, lowered, words, asked), words, asked)


def _ends(words: list[str], each: int) -> list[str]:
    """The words at the two ends; the list itself where that is all of them."""
    return words if len(words) <= 2 * each else words[:each] + words[-each:]


def _sparse(lowered: str, words: list[str], asked: list[str]) -> tuple[Indices, Floats]:
    """The distinct buckets, in order, and their values.

    A short prompt costs what the calls of numpy cost: so all blocks share one array, and are sorted at once.
    """
    near = list(map(_hash, _ends(words, 2 * _ASKED_WORDS)))
    buckets = list(map(_bucket, set(words)))
    buckets += [ASKED_AT + bucket for bucket in map(_bucket, set(asked))]
    buckets += [PAIRS_AT + _mixed(first * _MIX + second, PAIR_BITS) for first, second in pairwise(near)]
    text = _gram_text(lowered)
    lengths = [length for length in _GRAM_LENGTHS if length <= len(text)]
    found = np.empty(len(buckets) + sum(len(text) - length + 1 for length in lengths), np.uint32)
    found[: len(buckets)] = buckets
    _write_grams(text, lengths, found[len(buckets) :])
    found.sort()
    new = np.empty(len(found), bool)
    new[:1] = True
    np.not_equal(found[1:], found[:-1], out=new[1:])
    distinct = found[new]
    counts = [end - start for start, end in pairwise(distinct.searchsorted(_EDGES).tolist())]
    values = np.array([1 / math.sqrt(max(count, 4)) for count in counts], np.float32)
    return distinct.astype(np.int64), values.repeat(counts)


@lru_cache(maxsize=_REMEMBERED)
def _hash(word: str) -> int:
    return zlib.crc32(b"0" if word[0].isdigit() else word.encode("utf-8", "replace"))


@lru_cache(maxsize=_REMEMBERED)
def _bucket(word: str) -> int:
    return _mixed(_hash(word), WORD_BITS)


def _mixed(hashed: int, bits: int) -> int:
    return (hashed * _MIX & 0xFFFFFFFF) >> (32 - bits)


def _gram_text(lowered: str) -> bytes:
    """What the n-grams are taken from: runs of white space become one space, runs of digits one zero."""
    if len(lowered) > 2 * _GRAM_CHARACTERS:
        lowered = lowered[:_GRAM_CHARACTERS] + " " + lowered[-_GRAM_CHARACTERS:]
    if not lowered.isascii():
        spaced = " ".join(f"x{lowered}x".split())[1:-1]  # a pattern takes four times as long
        return f" {_DIGITS.sub('0', spaced)} ".encode("utf-8", "replace")
    text = lowered.encode().translate(_SAME_SPACES_AND_DIGITS)
    for double in (b"  ", b"00"):
        while double in text:
            text = text.replace(double, double[:1])
    return b" %b " % text


def _write_grams(text: bytes, lengths: Sequence[int], out: _Hashes) -> None:
    """Writes the buckets of all runs of bytes of these lengths. What exceeds 32 bits falls off by itself."""
    data = np.frombuffer(text, np.uint8).astype(np.uint32)
    rolled, at = data, 0
    for length in range(2, max(lengths, default=0) + 1):
        rolled = rolled[:-1] * _ROLL
        rolled += data[length - 1 :]
        if length in lengths:
            np.add(rolled, _OF_LENGTH[length], out=out[at : at + len(rolled)])
            at += len(rolled)
    out *= _GRAM_MIX
    out >>= _GRAM_SHIFT
    out += _GRAMS_START
