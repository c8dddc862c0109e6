"""The guess at a language knows what it does not know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precision.policy.document import LANGUAGES
from router.language import guess_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is 2+2?", "en"),
        ("Write a haiku", "en"),
        ("Fix this sentence for me: 你好", "en"),
        ("Wie geht es dir?", "other-latin"),
        ("¿Dónde está la biblioteca?", "other-latin"),
        ("你好,今天天气怎么样?", "zh"),
        ("今日はとても寒いですね", "ja"),
        ("안녕하세요", "ko"),
        ("Что такое HTTP API?", "ru"),
        ("Привіт, як справи?", "uk"),
        ("Τι είναι αυτό;", "el"),
        ("מה שלומך היום", "he"),
        ("مرحبا كيف حالك", "ar"),
        ("سلام چطوری", "fa"),
        ("आप कैसे हैं", "hi"),
        ("สวัสดีครับ", "th"),
        ("", "unknown"),
        ("12345 + 17", "unknown"),
        ("Qwertz uiop", "unknown"),
        ("print(x)", "unknown"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert guess_language(text) == language
    assert language in LANGUAGES


@given(st.text())
def test_any_text_gets_a_language_that_policies_know(text: str) -> None:
    assert guess_language(text) in LANGUAGES
