"""The prefix is read and stripped however it is split, garbled, repeated or left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.confidence import PrefixParser


def read(*pieces: str) -> tuple[float | None, str]:
    parser = PrefixParser()
    shown = "".join([parser.feed(piece) for piece in pieces] + [parser.finish()])
    assert parser.decided
    return parser.confidence, shown


@pytest.mark.parametrize(
    ("reply", "confidence", "shown"),
    [
        ("[[confidence=85]]\nBrasilia.", 0.85, "Brasilia."),
        ("[[confidence=0]]\nNo idea.", 0.0, "No idea."),
        ("[[confidence=100]]Yes.", 1.0, "Yes."),
        ("  \n[[Confidence: 85%]]\r\n\r\nBrasilia.", 0.85, "Brasilia."),
        ("[confidence=85] Brasilia.", 0.85, "Brasilia."),
        ("[[confidence=0.85]]\nBrasilia.", 0.85, "Brasilia."),
        ("[[confidence=85]]\n[[confidence=10]]\nBrasilia.", 0.85, "Brasilia."),
        ("[[confidence=high]]\nBrasilia.", None, "Brasilia."),
        ("[[confidence=185]]\nBrasilia.", None, "Brasilia."),
        ("[[confidence=-5]]\nBrasilia.", None, "Brasilia."),
        ("[[confidence=]]\nBrasilia.", None, "Brasilia."),
        ("Brasilia.", None, "Brasilia."),
        ("[1] Brasilia.", None, "[1] Brasilia."),
        ("[confident] yes", None, "[confident] yes"),
        ("Brasilia. [[confidence=85]]", None, "Brasilia. [[confidence=85]]"),
        ("[[confidence=85]]", 0.85, ""),
        ("", None, ""),
        ("[[confidence", None, "[[confidence"),
    ],
)
def test_prefix_is_read_and_stripped_at_every_split(reply: str, confidence: float | None, shown: str) -> None:
    assert read(reply) == (confidence, shown)
    for at in range(len(reply) + 1):
        assert read(reply[:at], reply[at:]) == (confidence, shown)
    assert read(*reply) == (confidence, shown)


@given(st.text(max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_any_text_without_the_mark_passes_unchanged(text: str, cuts: list[int]) -> None:
    if "[" in text:
        text = text.replace("[", "(")
    pieces = [text[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True)]
    assert read(*pieces) == (None, text)


@given(st.integers(0, 100), st.text(alphabet=st.characters(exclude_characters="[] \t\r\n"), min_size=1, max_size=40))
def test_a_confidence_is_known_before_anything_is_shown(percent: int, answer: str) -> None:
    parser = PrefixParser()
    for character in f"[[confidence={percent}]]\n{answer}":
        if parser.feed(character):
            assert parser.confidence == percent / 100
    parser.finish()
    assert parser.confidence == percent / 100


def test_a_low_confidence_is_decided_before_the_answer_begins() -> None:
    """The junior can be cut off as soon as the brackets close."""
    parser = PrefixParser()
    assert parser.feed("[[confidence=20]]") == ""
    assert parser.decided
    assert parser.confidence == 0.2


def test_text_streams_at_once_behind_the_prefix() -> None:
    parser = PrefixParser()
    parser.feed("[[confidence=90]]\n")
    assert parser.feed("Bra") == "Bra"
    assert parser.feed("silia") == "silia"


def test_text_that_cannot_be_a_prefix_is_not_held_back() -> None:
    parser = PrefixParser()
    assert parser.feed("B") == "B"
    assert parser.decided
