"""Choosing among several openings of an answer: the one that most others agree with (self-consistency)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from devstack.gemini.engine import Token

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Draft:
    """One opening."""

    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        """Its text."""
        return "".join(token.text for token in self.tokens)

    @property
    def mean_logprob(self) -> float:
        """Mean over its tokens; minus infinity when it is empty."""
        said = [token.logprob for token in self.tokens if token.text]
        return sum(said) / len(said) if said else float("-inf")


def choose(question: str, drafts: Sequence[Draft]) -> tuple[Draft, float]:
    """The draft with the highest mean agreement (0..1) with the others, and that agreement.

    Agreement is the overlap of words that do not stand in the question. Ties go to the likelier draft.
    """
    asked = _words(question)
    said = [_words(draft.text) - asked for draft in drafts]
    if len(drafts) == 1:
        return drafts[0], 1.0
    means = [
        sum(_overlap(mine, other) for number, other in enumerate(said) if number != index) / (len(drafts) - 1)
        for index, mine in enumerate(said)
    ]
    best = max(range(len(drafts)), key=lambda index: (round(means[index], 6), drafts[index].mean_logprob))
    return drafts[best], means[best]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _overlap(one: set[str], other: set[str]) -> float:
    both = one | other
    return len(one & other) / len(both) if both else 1.0
