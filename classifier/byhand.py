"""The features made by hand: length, punctuation, script and language, how the request opens, marks, words by list."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classifier import lexicon
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

_MARKS: dict[str, str] = {
    "code fence": r"```|~~~",
    "code": (
        r"\b(?:def|class|function|public|static|const|import|return|select"
        r"|#include)\b[^.?!\n]{0,40}[({;:]|[;{}]\s*(?:\n|$)|\w\(\)|=>|::"
        r"|\w_\w|</?\w+>"
    ),
    "formula": r"\\[a-z]+[{ (\[^_]|\$[^$\n]{1,80}\$|\^\{|_\{|\^\d",
    "arithmetic": r"\d\s*[-+*/×÷^=]\s*\(?-?\d|\d\s*%|√|∫|∑|≤|≥|\b[a-z]\s*[=^]\s*-?\d|\d[xyz]\b|\bf\(x\)",
    "table": r"^[^\n|]*\|[^\n|]*\|",
    "choices": r"(?:^|\n)\s*\(?[a-e][.):]\s+\S",
    "list": r"(?:^|\n)\s*(?:[-*•]|\d+[.)])\s+\S",
    "quotation": r"[\"“”«»„‘][^\"“”«»„]{12,}",
    "paragraphs": r"\n\s*\n",
    "money": r"[$€£¥₹]\s*\d|\d\s*(?:usd|eur|dollars?|euros?|bucks|k\b|grand|million|bn|%)",
    "quantity": r"\d\s*(?:mg|ml|mcg|kg|cm|mm|km|m/s|hz|ev|mol|g|l|j|w|v)\b",
    "how much": r"\bhow (?:many|much|far|long|old|fast|tall)\b",
    "may i": r"\b(?:should|can|could|do|may|must|am|will|would) (?:i|we|my|he|she|they|you)\b",
    "is it ok": (
        r"\bis (?:it|that|this) (?:ok|okay|safe|legal|normal|bad|worth|true"
        r"|allowed|dangerous|possible|even|smart|dumb|enforceable)\b"
    ),
    "if ... then": r"\b(?:if|all|some|no|every|each) [^.?!\n]{3,60}\b(?:then|are|is|does|can)\b",
    "labels": r"\b(?:positive|negative|true|false|yes|no|neutral|entail\w*|spam)\b(?:,| or |/)",
    "ends with a cue": (
        r"(?:answer|summary|title|label|sentiment|tl;dr|translation|output"
        r"|question|topic|category)\s*:?\s*$"
    ),
    "names its parts": (
        r"\b(?:question|passage|context|article|text|review|sentence|paragraph"
        r"|document|premise|hypothesis|title)\s*\d?\s*:"
    ),
    "contract": r"\b(?:shall|hereby|herein|hereof|hereto|thereof|pursuant|notwithstanding)\b",
    "blank": r"_{2,}|\bblank\b",
    "greeting": r"^\W*(?:hi|hello|hey|hola|hallo|salut|oi|ciao)\b",
    "casual": r"\b(?:lol|haha\w*|omg|lmao|ugh|yeah|yay|wow)\b|:\)|:d\b|!{2,}",
    "exam": (
        r"\b(?:which of the following|most likely|best describes|all of the following"
        r"|except|true or false)\b"
    ),
    "reasons": r"\b(?:step by step|explain (?:your|why|how)|reason\w*|derive|prove|show that)\b",
    "role": (
        r"\byou are (?:a|an|the)\b|\b(?:act|pretend|speak) (?:as|like)\b"
        r"|\bin the (?:voice|style) of\b"
    ),
    "age": r"\b(?:year|month|week|day)s? (?:old|pregnant)\b|\b\d+[ -]?(?:yo|y/o|year[ -]old)\b",
}
_DIGITS = tuple("0123456789")
# One of these stands in every text that has the mark. They are looked for first: it is far cheaper than a pattern.
_NEEDS: dict[str, tuple[str, ...]] = {
    "money": _DIGITS,
    "quantity": _DIGITS,
    "how much": ("how ",),
    "is it ok": ("is ",),
    "names its parts": (":",),
    "contract": ("shall", "here", "there", "pursuant", "notwithstanding"),
    "blank": ("__", "blank"),
    "exam": ("which of", "most likely", "best describes", "following", "except", "true or false"),
    "reasons": ("step", "explain", "reason", "derive", "prove", "show that"),
    "role": ("you are", "act ", "pretend", "speak", "in the"),
    "age": ("old", "pregnant", "yo", "y/o"),
}
_PATTERNS = tuple((re.compile(pattern), _NEEDS.get(name, ())) for name, pattern in _MARKS.items())

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


def by_hand(prompt: Prompt, lowered: str, words: Sequence[str], asked: Sequence[str]) -> Floats:
    """One value for each feature.

    Args:
        lowered: the prompt's text in lower case.
        words: of the text, in lower case.
        asked: those at the text's two ends.
    """
    head, tail = lowered[:_MARKED_CHARACTERS], lowered[-_MARKED_CHARACTERS:]
    ends = lowered if len(lowered) <= 2 * _MARKED_CHARACTERS else head + "\n" + tail
    openers = [float(bool(asked) and asked[0] in group) for group in _OPENERS]
    openers += [float(not group.isdisjoint(asked)) for group in _OPENERS]
    marks = [float(_has(ends, pattern, needs)) for pattern, needs in _PATTERNS]
    single = np.array([*_shape(prompt, lowered, head, tail, words), *openers, *marks], np.float32)
    stopwords = _bit_counts([_STOPWORD_BITS.get(word, 0) for word in asked], len(_STOPWORDS)) / max(len(asked), 1)
    found = lexicon.shipped()
    inside = found.inside(prompt.text)
    whole_bits = found.bits(words) + inside
    near_bits = whole_bits if len(asked) == len(words) else found.bits(asked) + inside
    whole, near = (_bit_counts(bits, len(lexicon.LISTS)) for bits in (whole_bits, near_bits))
    lists = (np.log1p(near) / 2, np.minimum(near, 1), 3 * whole / (max(len(words), 1) + 3))
    return np.concatenate((single, stopwords, *lists), dtype=np.float32)


def _has(text: str, pattern: re.Pattern[str], needs: Sequence[str]) -> bool:
    if needs and not any(need in text for need in needs):
        return False
    return pattern.search(text) is not None


def _shape(prompt: Prompt, lowered: str, head: str, tail: str, words: Sequence[str]) -> list[float]:
    """Length, characters and scripts; about 0 to 2 each."""
    text, length = prompt.text, max(len(prompt.text), 1)
    data = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    start = data[:_MARKED_CHARACTERS]
    is_digit = (data >= 48) & (data <= 57)
    is_mark = ((data > 32) & (data < 48)) | ((data > 57) & (data < 65)) | ((data > 90) & (data < 97))
    is_capital = (start >= 65) & (start <= 90)
    numbers = int((is_digit[1:] & ~is_digit[:-1]).sum()) + int(is_digit[:1].sum())
    stripped = lowered.rstrip()
    shape = [
        float(np.log1p(len(words))) / 4,
        float(np.log1p(prompt.characters)) / 8,
        min(text.count("\n") / 8, 2.0),
        float(len(words) <= 3),
        float(len(words) <= 8),
        float(len(words) > 60),
        float(is_digit.sum()) / length * 4,
        float(is_mark.sum()) / length * 4,
        min(numbers / 4, 2.0),
        float("?" in tail or "？" in tail or "؟" in tail),
        float(stripped.endswith(("?", "？", "؟"))),
        float("?" in head or "？" in head),
        float(stripped.endswith((":", "："))),
        min(text.count("|") / 6, 2.0),
        float(is_capital.sum()) / min(length, _MARKED_CHARACTERS) * 2,
    ]
    if text.isascii():
        return shape + [0.0] * len(_SCRIPTS)
    return shape + [float(((data >= low) & (data <= high)).mean()) for low, high in _SCRIPTS]


def _bit_counts(bits: Sequence[int], width: int) -> Floats:
    """How often each bit is set."""
    array = np.array(bits, np.int64)
    return ((array[:, None] >> np.arange(width)) & 1).sum(0).astype(np.float32)
