"""The port behind the wire: what answers an Ask."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from devstack.gemini.ask import Ask


@dataclass(slots=True)
class Usage:
    """Tokens of one call. ``prompt`` includes ``cached``; ``thoughts`` stand beside ``candidates``, not within."""

    prompt: int
    candidates: int = 0
    thoughts: int = 0
    cached: int = 0

    @property
    def output(self) -> int:
        """What is billed as output."""
        return self.candidates + self.thoughts


@dataclass(slots=True)
class Piece:
    """One chunk of one candidate.

    ``parts`` is the JSON of the candidate's ``parts`` array, rendered by the backend so that scripted answers need no
    encoding per call. ``usage`` is cumulative. ``finish`` is set on a candidate's last piece only. ``tokens`` is what
    the piece holds, for pacing.
    """

    parts: bytes
    usage: Usage
    finish: str | None = None
    index: int = 0
    tokens: int = 1


class Backend(Protocol):
    """Answers. Both methods stop working when the awaiting task is cancelled."""

    async def complete(self, ask: Ask) -> list[Piece]:
        """The whole answer: one piece for each candidate."""
        ...

    def stream(self, ask: Ask) -> AsyncGenerator[Piece]:
        """The answer piece by piece; the last piece of each candidate carries ``finish``."""
        ...

    async def close(self) -> None:
        """Frees threads and memory."""
        ...
