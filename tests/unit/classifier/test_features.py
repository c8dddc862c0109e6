"""The features are what their definitions say, whichever shorter way the code takes to them."""

import re
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import lexicon
from classifier.byhand import by_hand
from classifier.features import ASKED_AT, BUCKETS, GRAMS_AT, PAIRS_AT, extract
from classifier.marks import MARKS, Sign, marks
from classifier.prompt import Prompt

WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")
SCRIPTS = "À-ɏ Ͱ-Ͽ Ѐ-ԯ \u0590-\u06ff \u0900-\u0dff \u0e00-\u0eff \u3040-\u30ff \u3400-\u9fff \uac00-\ud7af".split()  # noqa: SIM905
SIGNS = [pytest.param(sign, id=f"{name} {at}") for name, signs in MARKS.items() for at, sign in enumerate(signs)]

# Texts in which what is counted is frequent: words, digits, marks, white space, and anything else now and then.
texts = st.lists(
    st.one_of(
        st.sampled_from(["the", "don't", "can’t", "Fever", "blood", "pressure", "12", "٣", "头痛", "é", "İ", "\ud800"]),
        st.sampled_from(
            [" ", "  ", "\n", "\t", "\x1c", "\u3000", "_", "-", "?", "@", "[", "`", "{", "~", "\0", "\x7f"]
        ),
        st.text(st.characters(max_codepoint=127), max_size=12),
        st.text(st.characters(), max_size=12),
    ),
    max_size=120,
).map("".join)


def mixed(hashed: int, bits: int) -> int:
    return (hashed * 0x9E3779B1 & 0xFFFFFFFF) >> (32 - bits)


def expected_buckets(text: str) -> list[int]:
    """One by one, as slowly as the definition reads."""
    lowered = text.lower()
    words = WORD.findall(lowered)
    hashes = [zlib.crc32(b"0" if word[0].isdigit() else word.encode("utf-8", "replace")) for word in words]
    asked = hashes if len(hashes) <= 32 else hashes[:16] + hashes[-16:]
    near = hashes if len(hashes) <= 64 else hashes[:32] + hashes[-32:]
    if len(lowered) > 2_000:
        lowered = lowered[:1_000] + " " + lowered[-1_000:]
    spaced = re.sub(r"\d+", "0", re.sub(r"\s+", " ", lowered))
    data = f" {spaced} ".encode("utf-8", "replace")
    found = {mixed(hashed, 15) for hashed in hashes}
    found |= {ASKED_AT + mixed(hashed, 15) for hashed in asked}
    found |= {PAIRS_AT + mixed(first * 0x9E3779B1 + second, 16) for first, second in pairwise(near)}
    for length in (3, 4, 5):
        for start in range(len(data) - length + 1):
            rolled = 0
            for byte in data[start : start + length]:
                rolled = rolled * 0x01000193 + byte
            found.add(GRAMS_AT + mixed(rolled + length * 0x85EBCA6B, 16))
    return sorted(found)


@settings(max_examples=150, deadline=None)
@given(texts)
def test_buckets_and_values(text: str) -> None:
    row = extract(Prompt(text, len(text)))
    assert row.buckets.tolist() == expected_buckets(text)
    for start, end in pairwise((0, ASKED_AT, PAIRS_AT, GRAMS_AT, BUCKETS)):
        values = row.values[(row.buckets >= start) & (row.buckets < end)]
        assert values == pytest.approx(max(len(values), 4) ** -0.5)


@settings(max_examples=30, deadline=None)
@given(texts.map(lambda text: (text + "7  ") * 40))
def test_buckets_of_a_long_text(text: str) -> None:
    assert extract(Prompt(text, len(text))).buckets.tolist() == expected_buckets(text)


@settings(max_examples=300, deadline=None)
@given(texts)
def test_characters_are_counted_alike_in_any_script(text: str) -> None:
    shape = extract(Prompt(text, len(text))).dense[:24]
    readable = text.encode("utf-8", "replace").decode()  # a lone surrogate counts as a question mark
    length = max(len(text), 1)
    assert shape[6] == pytest.approx(len(re.findall(r"[0-9]", readable)) / length * 4)
    assert shape[7] == pytest.approx(len(re.findall(r"[!-/:-@\[-`]", readable)) / length * 4)
    assert shape[8] == pytest.approx(min(len(re.findall(r"[0-9]+", readable)) / 4, 2))
    assert shape[14] == pytest.approx(len(re.findall(r"[A-Z]", readable[:400])) / min(length, 400) * 2)
    shares = [len(re.findall(f"[{script}]", readable)) / length for script in SCRIPTS]
    assert shape[15:] == pytest.approx(np.array(shares, np.float32))


@settings(deadline=None)
@given(texts)
def test_words_that_are_all_asked_count_once_or_twice_alike(text: str) -> None:
    """The words at the ends may be the words themselves, or others that are equal."""
    prompt = Prompt(text, len(text))
    words = WORD.findall(text.lower())[:32]
    same, copied = (by_hand(prompt, text.lower(), words, asked) for asked in (words, list(words)))
    assert same.tolist() == copied.tolist()


@settings(deadline=None)
@given(st.lists(st.sampled_from(["blood", "pressure", "fever", "the"]), max_size=8))
def test_pairs_of_the_lexicon_are_found_at_every_place(words: list[str]) -> None:
    medical = 1 << lexicon.LISTS.index("medical")
    lists = lexicon.Lexicon("medical:\nblood_pressure\n")
    assert lists.bits(words) == [
        medical if pair == ("blood", "pressure") else 0 for pair in zip(["", *words], words, strict=False)
    ]


@pytest.mark.parametrize("sign", SIGNS)
def test_what_a_sign_needs_stands_in_every_text_that_has_it(sign: Sign) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(st.from_regex(sign.pattern), texts, texts)
    def check(match: str, before: str, after: str) -> None:
        for text in (match, before + match + after):
            text = re.sub(r"\d", "7", text)  # some amounts are read only where there are digits of ASCII
            if sign.pattern.search(text):
                assert sign.is_in(text)
                assert not sign.digit or re.search(r"\d", text)

    check()


def test_marks() -> None:
    names = list(MARKS)

    def found(text: str) -> set[str]:
        return {name for name, there in zip(names, marks(text), strict=True) if there}

    assert found("") == set()
    assert found("may i take 20 mg at 7 years old?") == {"may i", "quantity", "age"}
    assert found("x^2 = 9") == {"formula", "arithmetic"}
    assert found("f(x)") == {"arithmetic"}
    assert found("a) one\nb) two") == {"choices"}
    assert found("return f(1);\n") == {"code"}
    assert found("lol :)") == {"casual"}
