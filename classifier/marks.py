"""Marks of a text: patterns that speak for a form or a domain, each there or not.

Most texts have few of them, and a pattern costs far more than a look for a substring. So a mark is split into signs,
and each sign names what must stand in the text for its pattern to match; where that is missing, no pattern runs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sign:
    """One way in which a mark shows."""

    pattern: re.Pattern[str]
    needs: tuple[Sequence[str], ...]  # of each of these, one stands in every text that the pattern matches
    digit: bool  # whether every match has a digit

    def is_in(self, text: str) -> bool:
        for group in self.needs:
            for need in group:
                if need in text:
                    break
            else:
                return False
        return self.pattern.search(text) is not None


def _sign(pattern: str, *needs: Sequence[str], digit: bool = False) -> Sign:
    return Sign(re.compile(pattern), needs, digit)


# A text without one of these has no amounts for the model, even if it has digits of another script.
_PLAIN_DIGITS = "0123456789"
_CODE_WORDS = ("def", "class", "function", "public", "static", "const", "import", "return", "select", "#include")
_CUES = (
    "answer", "summary", "title", "label", "sentiment", "tl;dr", "translation", "output", "question", "topic",
    "category",
)  # fmt: skip

MARKS: dict[str, tuple[Sign, ...]] = {
    "code fence": (_sign(r"```|~~~", "`~"),),
    "code": (
        _sign(rf"\b(?:{'|'.join(_CODE_WORDS)})\b[^.?!\n]{{0,40}}[({{;:]", "({;:", _CODE_WORDS),
        _sign(r"[;{}]\s*(?:\n|$)", ";{}"),
        _sign(r"\w\(\)|=>|::|\w_\w|</?\w+>", ("_", "<", "()", "=>", "::")),
    ),
    "formula": (_sign(r"\\[a-z]+[{ (\[^_]|\$[^$\n]{1,80}\$|\^\{|_\{|\^\d", "\\$^_"),),
    "arithmetic": (
        _sign(r"\d(?:\s*[-+*/×÷^=]\s*\(?-?\d|\s*%|[xyz]\b)", digit=True),
        _sign(r"\b[a-z]\s*[=^]\s*-?\d", "=^", digit=True),
        _sign(r"[√∫∑≤≥]", "√∫∑≤≥"),
        _sign(r"\bf\(x\)", ("f(x)",)),
    ),
    "table": (_sign(r"^[^\n|]*\|[^\n|]*\|", "|"),),
    "choices": (_sign(r"^\s*\(?[a-e][.):]\s+\S"), _sign(r"\n\s*\(?[a-e][.):]\s+\S", "\n")),
    "list": (_sign(r"^\s*(?:[-*•]|\d+[.)])\s+\S"), _sign(r"\n\s*(?:[-*•]|\d+[.)])\s+\S", "\n")),
    "quotation": (_sign(r"[\"“”«»„‘][^\"“”«»„]{12,}", '"“”«»„‘'),),
    "paragraphs": (_sign(r"\n\s*\n", "\n"),),
    "money": (
        _sign(r"[$€£¥₹]\s*\d", "$€£¥₹", _PLAIN_DIGITS, digit=True),
        _sign(r"\d\s*(?:usd|eur|dollars?|euros?|bucks|k\b|grand|million|bn|%)", _PLAIN_DIGITS, digit=True),
    ),
    "quantity": (_sign(r"\d\s*(?:mg|ml|mcg|kg|cm|mm|km|m/s|hz|ev|mol|g|l|j|w|v)\b", _PLAIN_DIGITS, digit=True),),
    "how much": (_sign(r"\bhow (?:many|much|far|long|old|fast|tall)\b", ("how ",)),),
    "may i": (
        _sign(
            r"\b(?:should|can|could|do|may|must|am|will|would) (?:i|we|my|he|she|they|you)\b",
            ("can ", "do ", "ould ", "may ", "must ", "am ", "will "),
        ),
    ),
    "is it ok": (
        _sign(
            r"\bis (?:it|that|this) (?:ok|okay|safe|legal|normal|bad|worth|true"
            r"|allowed|dangerous|possible|even|smart|dumb|enforceable)\b",
            ("is it ", "is that ", "is this "),
        ),
    ),
    "if ... then": (
        _sign(
            r"\b(?:if|all|some|no|every|each) [^.?!\n]{3,60}\b(?:then|are|is|does|can)\b",
            ("if ", "all ", "some ", "no ", "every ", "each "),
        ),
    ),
    "labels": (
        _sign(
            r"\b(?:positive|negative|true|false|yes|no|neutral|entail\w*|spam)\b(?:,| or |/)",
            (",", "/", " or "),
            ("tive", "true", "false", "yes", "no,", "no or ", "no/", "neutral", "entail", "spam"),
        ),
    ),
    "ends with a cue": (_sign(rf"(?:{'|'.join(_CUES)})\s*:?\s*$", _CUES),),
    "names its parts": (
        _sign(
            r"\b(?:question|passage|context|article|text|review|sentence|paragraph"
            r"|document|premise|hypothesis|title)\s*\d?\s*:",
            ":",
            (
                "question", "passage", "text", "article", "review", "sentence", "paragraph", "document", "premise",
                "hypothesis", "title",
            ),
        ),
    ),
    "contract": (
        _sign(
            r"\b(?:shall|hereby|herein|hereof|hereto|thereof|pursuant|notwithstanding)\b",
            ("shall", "hereby", "herein", "hereof", "hereto", "pursuant", "notwithstanding"),
        ),
    ),
    "blank": (_sign(r"_{2,}|\bblank\b", ("__", "blank")),),
    "greeting": (_sign(r"^\W*(?:hi|hello|hey|hola|hallo|salut|oi|ciao)\b"),),
    "casual": (
        _sign(r":\)|:d\b|!!", (":)", ":d", "!!")),
        _sign(
            r"\b(?:lol|haha\w*|omg|lmao|ugh|yeah|yay|wow)\b",
            ("lol", "haha", "omg", "lmao", "ugh", "yeah", "yay", "wow"),
        ),
    ),
    "exam": (
        _sign(
            r"\b(?:which of the following|most likely|best describes|all of the following"
            r"|except|true or false)\b",
            ("of the following", "most likely", "best describes", "except", "true or false"),
        ),
    ),
    "reasons": (
        _sign(
            r"\b(?:step by step|explain (?:your|why|how)|reason\w*|derive|prove|show that)\b",
            ("step by step", "explain ", "reason", "derive", "prove", "show that"),
        ),
    ),
    "role": (
        _sign(r"\byou are (?:a|an|the)\b", ("you are ",)),
        _sign(r"\b(?:act|pretend|speak) (?:as|like)\b", ("act ", "pretend ", "speak "), (" as", " like")),
        _sign(r"\bin the (?:voice|style) of\b", ("in the voice of", "in the style of")),
    ),
    "age": (
        _sign(
            r"\b(?:year|month|week|day)s? (?:old|pregnant)\b", (" old", " pregnant"), ("year", "month", "week", "day")
        ),
        _sign(r"\b\d+[ -]?(?:yo|y/o|year[ -]old)\b", ("yo", "y/o", "year"), digit=True),
    ),
}  # fmt: skip

_SIGNS = tuple(MARKS.values())
_SIGNS_WITHOUT_DIGITS = tuple(tuple(sign for sign in signs if not sign.digit) for signs in _SIGNS)
_DIGIT = re.compile(r"\d")


def marks(text: str) -> list[float]:
    """For each mark whether a text, in lower case, has it: 1 or 0."""
    found: list[float] = []
    for signs in _SIGNS if _DIGIT.search(text) else _SIGNS_WITHOUT_DIGITS:
        for sign in signs:
            if sign.is_in(text):
                found.append(1.0)
                break
        else:
            found.append(0.0)
    return found
