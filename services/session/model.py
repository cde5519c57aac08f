"""What the service keeps: conversations, their turns, and on whose behalf."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

# In place of a person for a tenant's API key that belongs to nobody.
NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(slots=True)
class Principal:
    """Who asks: UUIDs as text; `person_id` is NOBODY where no person does."""

    tenant_id: str
    person_id: str


class Outcome(IntEnum):
    """How a turn or an ask ended; the numbers are the protocol's and those stored."""

    ANSWER = 1
    FAILURE = 2
    CANCELLED = 3


@dataclass(slots=True)
class Answer:
    """What a model said. Tier and finish reason are the protocol's numbers, costs millionths of a US dollar."""

    text: str = ""
    tier: int = 0
    model: str = ""
    confidence: float = 0.0
    finish_reason: int = 0
    escalated: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int = 0
    cost_microusd: int = 0


@dataclass(slots=True)
class Conversation:
    """A thread of turns. `active_at` is when its newest turn was stored, or when it was made."""

    id: str
    title: str
    created_at: datetime
    active_at: datetime
    turn_count: int


@dataclass(slots=True)
class Turn:
    """A turn as stored; see `focus.session.v1.Turn` for what its hash covers."""

    id: str
    seq: int
    parent_id: str
    question: str
    outcome: Outcome
    answer: Answer
    failure_reason: str
    failure_message: str
    created_at: datetime
    question_digest: bytes
    answer_digest: bytes
    previous_hash: bytes
    hash: bytes
    fence: int
    erased: bool


@dataclass(slots=True)
class Exchange:
    """One turn as history: what was asked and what was answered."""

    question: str
    answer: str


@dataclass(slots=True)
class Wanted:
    """A turn that somebody wants to begin."""

    principal: Principal
    conversation_id: str
    holder_id: str
    turn_id: str
    parent_id: str = ""
    replaces_id: str = ""
    key: str = ""
    digest: bytes = b""
    budget: int = 0


@dataclass(slots=True)
class Begun:
    """A lease, with what the model needs to know; `history` is oldest first."""

    turn_id: str
    fence: int
    seq: int
    parent_id: str
    history: list[Exchange] = field(default_factory=list)
    history_cut: bool = False
    replaced_question: str = ""


@dataclass(slots=True)
class Ending:
    """How a turn is to be stored."""

    principal: Principal
    conversation_id: str
    turn_id: str
    fence: int
    question: str
    outcome: Outcome
    answer: Answer
    failure_reason: str = ""
    failure_message: str = ""
