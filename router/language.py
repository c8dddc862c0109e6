"""A cheap guess at the language of a prompt: by script, and for Latin script by a few very common words.

It is for rules that send a language to a precision, and says `unknown` rather than guess from too little. It does not
tell one Latin-script language from another but English from the rest; `ru` and `ar` stand for their scripts where no
letter of Ukrainian or Persian is seen, and `hi` for Devanagari.
"""

import re

UNKNOWN = "unknown"
_LOOKED_AT = 240  # characters
_ENOUGH = 0.3  # of the letters: what a script needs to name the language

_SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("kana", re.compile("[\u3040-\u30ff]")),
    ("han", re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")),
    ("hangul", re.compile("[\uac00-\ud7af\u1100-\u11ff]")),
    ("cyrillic", re.compile("[\u0400-\u04ff]")),
    ("greek", re.compile("[\u0370-\u03ff]")),
    ("hebrew", re.compile("[\u0590-\u05ff]")),
    ("arabic", re.compile("[\u0600-\u06ff]")),
    ("devanagari", re.compile("[\u0900-\u097f]")),
    ("thai", re.compile("[\u0e00-\u0e7f]")),
)
_BY_SCRIPT = {
    "han": "zh",
    "hangul": "ko",
    "cyrillic": "ru",
    "greek": "el",
    "hebrew": "he",
    "arabic": "ar",
    "devanagari": "hi",
    "thai": "th",
}
_UKRAINIAN = re.compile("[іїєґІЇЄҐ]")
_PERSIAN = re.compile("[پچژگ]")
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_WORDS = (
    "the and of to is are was what how why who when where which do does did can could would should you your my me it "
    "this that with for from not have has please write explain give list i we they in on at by be as an if or"
)
_OTHER_WORDS = (
    "der die das und ist nicht ein eine wie warum bitte ich mit für auf den le la les des est une pas pour que qui "
    "comment pourquoi avec dans je vous el los las es una por para con cómo qué porque il di che non per come perché "
    "sono o os um uma não como em het een niet van hoe jest nie się jak och att det som inte ve bir bu için"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_OTHER_LATIN = frozenset(_OTHER_WORDS.split())


def guess_language(text: str) -> str:
    """One of `precision.policy.document.LANGUAGES`. Looks at the first few hundred characters only."""
    text = text[:_LOOKED_AT]
    if not text.isascii():
        found = _by_script(text)
        if found:
            return found
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return UNKNOWN
    english = sum(word in _ENGLISH for word in words)
    other = sum(word in _OTHER_LATIN for word in words)
    accented = not text.isascii() and any(not word.isascii() for word in words)
    if english > other and english >= max(1, len(words) // 12):
        return "en"
    if other > english or (accented and english == 0):
        return "other-latin"
    return UNKNOWN


def _by_script(text: str) -> str:
    """The language that a script stands for; empty for Latin and for a mixture."""
    letters = sum(map(str.isalpha, text))
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS}
    if counts["kana"] and counts["kana"] + counts["han"] >= _ENOUGH * letters:
        return "ja"  # Chinese has no kana, and Japanese hardly goes without
    script = max(counts, key=lambda name: counts[name])
    if not counts[script] or counts[script] < _ENOUGH * letters:
        return ""
    if script == "cyrillic" and _UKRAINIAN.search(text):
        return "uk"
    if script == "arabic" and _PERSIAN.search(text):
        return "fa"
    return _BY_SCRIPT.get(script, UNKNOWN)
