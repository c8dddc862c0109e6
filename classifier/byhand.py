"""The features made by hand: length, punctuation, script and language, how the request opens, marks, words by list."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from classifier import lexicon
from classifier.marks import marks
from classifier.prompt import Prompt

Floats = NDArray[np.float32]

_MARKED_CHARACTERS = 400  # at each end: where marks are looked for

_STOPWORDS: dict[str, str] = {
    "en": "the a an is are was of to and in that it for on with you my i what how do can be this",
    "es": "el la los las de que y en un una es por con para mi cómo qué se del al me cuál",
    "de": "der die das und ist ein eine ich nicht zu mit den von für auf wie was kann mein wenn",
    "fr": "le la les de et est un une je pas que pour dans des du mon ma quel quelle comment sur",
    "pt": "o a os as de que e é um uma em para com não do da meu minha como qual por se",
    "it": "il lo la gli le di che e è un una per con non mi come qual del della sono",
}
_STOPWORD_BITS = {
    word: sum(1 << at for at, words in enumerate(_STOPWORDS.values()) if word in words.split())
    for word in " ".join(_STOPWORDS.values()).split()
}

# How a request opens: asks, asks yes or no, wants something made, handled, worked out, suggested; or speaks of oneself.
_OPENERS: tuple[frozenset[str], ...] = tuple(
    frozenset(words.split())
    for words in (
        "what who whom whose which when where why how",
        "is are was were do does did can could should would will has have had am may might must",
        "write compose create tell make invent imagine draft generate continue design",
        "translate rewrite rephrase paraphrase convert extract fix correct turn change replace find read",
        "calculate compute solve find evaluate simplify prove derive show determine explain analyze compare",
        "give suggest recommend list name describe provide plan help propose brainstorm",
        "i i'm im my me i've we our mine myself",
    )
)

_SCRIPTS: tuple[tuple[int, int], ...] = (
    (0x00C0, 0x024F),  # accented Latin
    (0x0370, 0x03FF),  # Greek
    (0x0400, 0x052F),  # Cyrillic
    (0x0590, 0x06FF),  # Hebrew, Arabic
    (0x0900, 0x0DFF),  # Indic
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x9FFF),  # Han
    (0xAC00, 0xD7AF),  # Hangul
)
_NO_SCRIPTS = [0.0] * len(_SCRIPTS)
# Where a script begins and where it has ended, in turn: characters between two edges are of a script or of none.
_SCRIPT_EDGES = np.array([edge for low, high in _SCRIPTS for edge in (low, high + 1)], np.uint32)

_DIGITS = bytes(range(48, 58))
_CAPITALS = bytes(range(65, 91))
_PUNCTUATION = bytes([*range(33, 48), *range(58, 65), *range(91, 97)])
_ONLY_DIGITS = bytes(48 if code in _DIGITS else 32 for code in range(256))
_NO_CAPITALS = bytes(code for code in range(256) if code not in _CAPITALS)
_NO_PUNCTUATION = bytes(code for code in range(256) if code not in _PUNCTUATION)


def by_hand(prompt: Prompt, lowered: str, words: Sequence[str], asked: Sequence[str]) -> Floats:
    """One value for each feature.

    Args:
        lowered: the prompt's text in lower case.
        words: of the text, in lower case.
        asked: those at the text's two ends; the same object where that is all of them.
    """
    head, tail = lowered[:_MARKED_CHARACTERS], lowered[-_MARKED_CHARACTERS:]
    ends = lowered if len(lowered) <= 2 * _MARKED_CHARACTERS else head + "\n" + tail
    first = asked[0] if asked else ""
    found = lexicon.shipped()
    inside = found.inside(prompt.text)
    whole = _bit_counts(found.bits(words) + inside, len(lexicon.LISTS))
    near = whole if asked is words else _bit_counts(found.bits(asked) + inside, len(lexicon.LISTS))
    stopwords = _bit_counts([_STOPWORD_BITS.get(word, 0) for word in asked], len(_STOPWORDS))
    return np.array(
        [
            *_shape(prompt, lowered, head, tail, words),
            *[first in group for group in _OPENERS],
            *[not group.isdisjoint(asked) for group in _OPENERS],
            *marks(ends),
            *[count / max(len(asked), 1) for count in stopwords],
            *[math.log1p(count) / 2 for count in near],
            *[count > 0 for count in near],
            *[3 * count / (max(len(words), 1) + 3) for count in whole],
        ],
        np.float32,
    )


def _shape(prompt: Prompt, lowered: str, head: str, tail: str, words: Sequence[str]) -> list[float]:
    """Length, characters and scripts; about 0 to 2 each."""
    text, length = prompt.text, max(len(prompt.text), 1)
    plain = text.encode("ascii", "replace")
    strangers, scripts = (0, _NO_SCRIPTS) if text.isascii() else _scripts(text)
    numbers = plain.translate(_ONLY_DIGITS)
    punctuation = len(plain.translate(None, _NO_PUNCTUATION)) - strangers  # each of which was replaced by a "?"
    capitals = len(plain[:_MARKED_CHARACTERS].translate(None, _NO_CAPITALS))
    stripped = lowered.rstrip()
    return [
        math.log1p(len(words)) / 4,
        math.log1p(prompt.characters) / 8,
        min(text.count("\n") / 8, 2.0),
        float(len(words) <= 3),
        float(len(words) <= 8),
        float(len(words) > 60),
        numbers.count(b"0") / length * 4,
        punctuation / length * 4,
        min(len(numbers.split()) / 4, 2.0),
        float("?" in tail or "？" in tail or "؟" in tail),
        float(stripped.endswith(("?", "？", "؟"))),
        float("?" in head or "？" in head),
        float(stripped.endswith((":", "："))),
        min(text.count("|") / 6, 2.0),
        capitals / min(length, _MARKED_CHARACTERS) * 2,
        *scripts,
    ]


def _scripts(text: str) -> tuple[int, list[float]]:
    """How many characters are not ASCII, and the share of each script. A lone surrogate counts as a question mark."""
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    strangers = codes[codes > 127]
    between = np.bincount(_SCRIPT_EDGES.searchsorted(strangers, "right"), minlength=len(_SCRIPT_EDGES) + 1)
    return len(strangers), [count / len(codes) for count in between[1::2].tolist()]


def _bit_counts(found: Iterable[int], width: int) -> list[int]:
    """How often each bit is set. Most words stand in no list."""
    counts = [0] * width
    for bits in filter(None, found):
        for at in _places(bits):
            counts[at] += 1
    return counts


@lru_cache(maxsize=1 << 10)
def _places(bits: int) -> tuple[int, ...]:
    """Which bits are set."""
    return tuple(at for at in range(bits.bit_length()) if bits >> at & 1)
