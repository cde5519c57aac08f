"""What comes out: events of an answer in the making, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from focus.chat.v1.chat_pb2 import FinishReason
from services.llm.catalogue import TierName
from services.llm.prompt import ToolCall
from services.llm.providers.port import Usage


@dataclass(frozen=True, slots=True)
class Waiting:
    """No quota yet: the place in the queue (1 is next) and the expected wait in seconds."""

    position: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer."""

    text: str
    tool_calls: Sequence[ToolCall] = ()


@dataclass(frozen=True, slots=True)
class Escalated:
    """The junior was not sure enough; the senior is asked."""

    confidence: float
    threshold: float
    model: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer. Usage and cost (micro-dollars) are summed over all calls it took."""

    text: str
    tier: TierName
    model: str
    confidence: float
    finish_reason: FinishReason.ValueType
    usage: Usage
    cost: int
    escalated: bool
    tool_calls: Sequence[ToolCall] = ()


Event = Waiting | Delta | Escalated | Answer


@dataclass(slots=True)
class Bill:
    """Adds up the calls of one answer; whoever makes a call enters it, also where it was cut short."""

    usage: Usage = field(default_factory=Usage)
    cost: int = 0
    model: str = ""

    def enter(self, model: str, usage: Usage, cost: int) -> None:
        self.model = model
        self.usage = self.usage + usage
        self.cost += cost
