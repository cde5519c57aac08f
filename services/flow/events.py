"""What a flow tells while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Queued:
    """Waiting for the conversation's other turns, or for the provider's quota."""

    waiting_for: Literal["conversation", "quota"]
    # 1 is next.
    position: int
    # 0: not known.
    expected_wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Escalated:
    """The junior was not sure; the senior answers."""

    confidence: float
    threshold: float
    model: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """Who wrote the answer is gone and another begins anew: the deltas so far are void."""


Event = Queued | Delta | Escalated | Restarted
