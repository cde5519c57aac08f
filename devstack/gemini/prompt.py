"""The prompt form in which SmolLM2-135M-Instruct answers best.

A model of 135 million parameters follows no instructions about its own behaviour, and a caller's system instruction
makes its answers worse ("You are Focus AI ..." turns Brasilia into Sao Paulo). So the caller's instruction is not
passed on. The model gets the system line that it was tuned with, one worked example, and a question in a fixed frame.
Of some 150 such forms that were tried this one says Brasilia with the widest margin (0.49 against 0.16 for Rio de
Janeiro, where most forms prefer Rio) and answers 36 of 64 general questions rightly, as do its neighbours (31 to 41).

History costs it as well: after a turn about France it calls Rio de Janeiro the capital of Brazil. So earlier turns are
passed on only where the question needs them, that is, where it refers to something outside itself.
"""

import re
from collections.abc import Sequence

from devstack.gemini.ask import Turn

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

FRAME = "Answer this question correctly: {}"
EXAMPLES: tuple[tuple[str, str], ...] = (
    ("What is the capital of the United States?", "The capital of the United States is Washington, D.C."),
)

# About four characters to a token; the rest of a slot's 4,096 tokens is for examples and answer.
HISTORY_CHARACTERS = 6_000
QUESTION_CHARACTERS = 9_000

_CONTROL = re.compile(r"<\|[a-z_]+\|>")
_REFERS = re.compile(
    r"\b(it|its|that|this|these|those|they|them|their|he|him|his|she|her|hers|there|then|one|ones|same|other|another|"
    r"i|me|my|mine|we|us|our|you|your|yours|first|last|previous|earlier|before|above|again|more|else|instead|also|too|"
    r"and|so|but|or|continue|repeat|summari[sz]e|explain|translate|shorter|longer|yes|no|okay|thanks?)\b",
    re.IGNORECASE,
)
_ASKS_FOR_FACT = re.compile(
    r"(what|what's|who|when|where|which|in (what|which)|how (many|much|old|far|tall))\b", re.IGNORECASE
)
_SHORTEST_WHOLE_QUESTION = 4  # words; below it a question hardly stands alone


def stands_alone(question: str) -> bool:
    """True when nothing in the question refers to an earlier turn."""
    return len(question.split()) >= _SHORTEST_WHOLE_QUESTION and _REFERS.search(question) is None


def render(turns: Sequence[Turn], *, begin: str = "") -> str:
    """The prompt for the last user turn; ``begin`` is text that the answer already has."""
    question = turns[-1].text[-QUESTION_CHARACTERS:]
    lines = [_message("system", SYSTEM)]
    for asked, answered in EXAMPLES:
        lines += [_message("user", _framed(asked)), _message("assistant", answered)]
    if not stands_alone(question):
        lines += [_message(role, text) for role, text in _history(turns[:-1])]
    lines += [_message("user", _framed(question)), f"<|im_start|>assistant\n{begin}"]
    return "".join(lines)


def _framed(text: str) -> str:
    """Questions for a fact in the frame; all others as they are ("Why ...?" in the frame gets an empty phrase)."""
    if _ASKS_FOR_FACT.match(text) is None:
        return text
    return FRAME.format(text[0].upper() + text[1:])


def _history(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """The newest whole turns that fit."""
    kept: list[tuple[str, str]] = []
    room = HISTORY_CHARACTERS
    for turn in reversed(turns):
        room -= len(turn.text)
        if room < 0:
            break
        kept.append(("assistant" if turn.role == "model" else "user", turn.text))
    return kept[::-1]


def _message(role: str, text: str) -> str:
    # A caller's text must not be able to end its own turn.
    return f"<|im_start|>{role}\n{_CONTROL.sub('', text)}<|im_end|>\n"
