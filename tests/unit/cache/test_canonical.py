"""The canonical form evens out writing, never meaning."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.canonical import canonical


@pytest.mark.parametrize(
    "other",
    [
        "what is the capital of brazil?",
        "  What   is the\tcapital of Brazil ?",
        "WHAT IS THE CAPITAL OF BRAZIL",
        "What is the capital of Brazil?!…",
        "Ｗｈａｔ is the capital of Brazil？",
        "What is\u00a0the capital of Brazil.\n",
    ],
)
def test_the_same_words_written_differently_are_one_question(other: str) -> None:
    assert canonical(other) == canonical("What is the capital of Brazil?")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of Brazil?", "What's the capital of Brazil?"),
        ("Is it on?", "Is it not on?"),
        ("2-1", "21"),
        ("resume", "résumé"),
        ("Wo ist das Maß?", "Wo ist die Masse?"),
        ("What is C?", "What is C++?"),
        ("1.5", "15"),
    ],
)
def test_different_words_stay_different_questions(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_spanish_opening_marks_belong_to_the_punctuation() -> None:
    assert canonical("¿Qué es la vida?") == canonical("qué es la vida")


@pytest.mark.parametrize("text", ["???", "!", "…"])
def test_punctuation_alone_is_kept(text: str) -> None:
    assert canonical(text)


def test_a_long_run_of_punctuation_takes_no_long_time() -> None:
    """With a regular expression for the end this took time by the square of its length: minutes."""
    text = "!" * 250_000 + "a"
    assert canonical(text) == text


@given(st.text())
def test_the_canonical_form_of_a_canonical_form_is_itself(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@given(st.text())
def test_composed_and_decomposed_letters_are_the_same(text: str) -> None:
    assert canonical(unicodedata.normalize("NFD", text)) == canonical(text)
