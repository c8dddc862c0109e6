"""Counts words that speak for a domain or a form. The lists are in `data/lexicon.txt`."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

LISTS = (
    "medical", "legal", "finance", "math", "science", "reasoning", "code", "chat", "creative",
    "transform", "summary", "classify", "facts", "instruct",
)  # fmt: skip
PATH = Path(__file__).parent / "data" / "lexicon.txt"
# Scripts without spaces, and those whose words are short: their words match anywhere.
_UNSPACED = re.compile(r"[\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SHORTEST_PREFIX, _LONGEST_PREFIX = 3, 9
_REMEMBERED = 1 << 14  # words; most of a prompt has been seen before


class Lexicon:
    """Words by list, found in time that does not depend on how many there are.

    Raises:
        ValueError: a list is unknown, or a word stands outside any.
    """

    def __init__(self, text: str) -> None:
        self._whole: dict[str, int] = {}  # word, or two words with a space -> bits of lists
        self._prefixes: dict[str, int] = {}
        self._suffixes: dict[str, int] = {}
        self._inside: dict[str, int] = {}
        bit = 0
        for line in text.splitlines():
            if line.endswith(":") and " " not in line:
                if line[:-1] not in LISTS:
                    raise ValueError(f"lexicon: unknown list {line[:-1]!r}; the lists are {', '.join(LISTS)}")
                bit = 1 << LISTS.index(line[:-1])
            elif not line.startswith("#"):
                for word in line.split():
                    if not bit:
                        raise ValueError(f"lexicon: {word!r} stands outside any list")
                    self._add(word.replace("_", " "), bit)
        self._pairs = frozenset(first for first, space, _ in (w.partition(" ") for w in self._whole) if space)
        self._inside_lengths: dict[str, set[int]] = {}  # by first character
        for word in self._inside:
            self._inside_lengths.setdefault(word[0], set()).add(len(word))
        self._lists = lru_cache(maxsize=_REMEMBERED)(self._look_up)

    def _add(self, word: str, bit: int) -> None:
        if _UNSPACED.search(word):
            target, word = self._inside, word.strip("*")
        elif word.endswith("*"):
            target, word = self._prefixes, word[:-1][:_LONGEST_PREFIX]
        elif word.startswith("*"):
            target, word = self._suffixes, word[1:]
        else:
            target = self._whole
        target[word] = target.get(word, 0) | bit

    def _look_up(self, word: str) -> int:
        """The lists one word stands in, as bits."""
        bits = self._whole.get(word, 0)
        for length in range(_SHORTEST_PREFIX, min(len(word), _LONGEST_PREFIX) + 1):
            bits |= self._prefixes.get(word[:length], 0)
        if len(word) >= 6:
            for length in (2, 3, 4, 5, 6):
                bits |= self._suffixes.get(word[-length:], 0)
        return bits

    def bits(self, words: Sequence[str]) -> list[int]:
        """For each word the lists it stands in, as bits; the second word of a pair gets the pair's too."""
        pairs, whole = self._pairs, self._whole
        found = list(map(self._lists, words))
        for at in [at for at, word in enumerate(words[:-1], 1) if word in pairs]:
            found[at] |= whole.get(f"{words[at - 1]} {words[at]}", 0)
        return found

    def inside(self, text: str) -> list[int]:
        """The same for scripts without spaces: one entry for each match, anywhere in the text."""
        if text.isascii() or not _UNSPACED.search(text):
            return []
        found: list[int] = []
        for run in _RUNS.findall(text):
            lengths_at = enumerate(map(self._inside_lengths.get, run))
            for start, lengths in [(start, lengths) for start, lengths in lengths_at if lengths]:
                for length in lengths:
                    bits = self._inside.get(run[start : start + length])
                    if bits and start + length <= len(run):
                        found.append(bits)
        return found


_RUNS = re.compile(r"[\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af ]+")


@cache
def shipped() -> Lexicon:
    return Lexicon(PATH.read_text(encoding="utf-8"))
