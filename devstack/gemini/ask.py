"""One generateContent request, as the backends see it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

CONFIDENCE_MARK = "[[confidence="


class Turn(NamedTuple):
    """One of ``contents``: ``role`` is user, model or function; ``text`` its text parts joined."""

    role: str
    text: str


@dataclass(slots=True)
class Ask:
    """A validated request. ``prompt_tokens`` is the emulator's estimate over everything that was sent."""

    model: str
    turns: list[Turn]
    system: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    tool_names: list[str] = field(default_factory=list)
    prompt_tokens: int = 1

    @property
    def last_text(self) -> str:
        """Text of the last user turn."""
        for turn in reversed(self.turns):
            if turn.role == "user":
                return turn.text
        return ""

    @property
    def wants_confidence(self) -> bool:
        """True when the caller's system instruction asks for the prefix ``[[confidence=NN]]``."""
        return CONFIDENCE_MARK in self.system

    @property
    def schema(self) -> dict[str, Any] | None:
        """The schema that a JSON answer must fit: Google's form or JSON Schema, or None."""
        chosen = self.config.get("responseSchema") or self.config.get("responseJsonSchema")
        return chosen if isinstance(chosen, dict) else None

    @property
    def wants_json(self) -> bool:
        """True when the answer must be JSON."""
        return self.config.get("responseMimeType") == "application/json"

    @property
    def candidates(self) -> int:
        """How many candidates are wanted, 1..8."""
        return int(self.config.get("candidateCount") or 1)

    @property
    def include_thoughts(self) -> bool:
        """True when thought summaries are wanted in the answer."""
        return bool((self.config.get("thinkingConfig") or {}).get("includeThoughts"))
