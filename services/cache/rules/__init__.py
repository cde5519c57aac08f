"""Which questions and answers may not be kept, by what they say.

The rules are regular expressions in files of this folder, one language and reason each.
They see text in its canonical form without accents ("cotação" as "cotacao"). An answer
is served for at most two days, so a rule looks for what may change within days.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from services.cache.canonical import canonical

# A refusal says so in its first sentences.
_OPENING_CHARS = 300
# Some rules look for two words far apart, at a cost that grows with the square of the length:
# of a long text its beginning and its end are looked at, where people say such things.
_QUESTION_CHARS = 1000
_ANSWER_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason not to keep an answer."""

    language: str
    why: str
    pattern: re.Pattern[str]


class Rules:
    """The rules of a deployment. Files: `questions.toml`, `answers.toml`, `refusals.toml`."""

    def __init__(self, questions: list[Rule], answers: list[Rule], refusals: list[Rule]) -> None:
        self._answers = answers
        self._refusals = refusals
        self._questions = questions

    @classmethod
    def load(cls, folder: Path | None = None) -> Rules:
        """The rules in `folder`, or those that come with the service. Raises ValueError."""
        read = [_read(folder, name) for name in ("questions.toml", "answers.toml", "refusals.toml")]
        return cls(*read)

    def time_dependent(self, question: str) -> bool:
        """True when the answer may be another one within days.

        Nothing is remembered from question to question: a memory shared by the tenants
        would tell one, by the time it saves, what another has asked.
        """
        if len(question) > 2 * _QUESTION_CHARS:
            return self._asks(question[:_QUESTION_CHARS]) or self._asks(question[-_QUESTION_CHARS:])
        return self._asks(question)

    def _asks(self, question: str) -> bool:
        text = plain(question)
        return any(rule.pattern.search(text) for rule in self._questions)

    def dated(self, answer: str) -> bool:
        """True when the answer speaks of its own time."""
        text = plain(answer if len(answer) <= 2 * _ANSWER_CHARS else answer[:_ANSWER_CHARS] + answer[-_ANSWER_CHARS:])
        return any(rule.pattern.search(text) for rule in self._answers)

    def refusal(self, answer: str) -> bool:
        """True when the answer declines to answer."""
        text = plain(answer[:_OPENING_CHARS])
        return any(rule.pattern.search(text) for rule in self._refusals)


def plain(text: str) -> str:
    """Canonical, without accents, with straight apostrophes."""
    decomposed = unicodedata.normalize("NFKD", canonical(text))
    return "".join(char for char in decomposed if not unicodedata.combining(char)).replace("’", "'")


def _read(folder: Path | None, name: str) -> list[Rule]:
    path = resources.files(__package__) / name if folder is None else folder / name
    try:
        table: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return [Rule(one["language"], one["why"], re.compile(one["pattern"], re.VERBOSE)) for one in table["rule"]]
    except (OSError, KeyError, tomllib.TOMLDecodeError, re.error) as err:
        raise ValueError(f"the rule file {path} cannot be used: {type(err).__name__}: {err}") from err
