"""Quota: what a call asks for, what it may be given, and who hands it out.

A limit belongs to an endpoint (project, model, location), never to a key or a replica. A call is
counted when it is granted; the provider counts it on arrival. A grant must therefore be used
within the guard: our window is the provider's plus the guard, so whatever window of its own length
the provider looks at, sliding or fixed, the grants of the calls in it lie within one of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from services.llm.catalogue import TierName
from services.llm.prompt import Priority
from services.llm.providers.port import Endpoint, Usage

PACIFIC = ZoneInfo("America/Los_Angeles")
# How many of its waiting calls a process offers at once.
MOST_OFFERED = 16
PRIORITIES: dict[Priority, int] = {"interactive": 0, "batch": 1, "warming": 2}


@dataclass(frozen=True, slots=True)
class Windows:
    """Seconds. `minute` is the provider's window for what it calls per minute; tests shorten it."""

    minute: float = 60.0
    guard: float = 1.0
    spend: float = 600.0

    @property
    def whole(self) -> float:
        """Our window."""
        return self.minute + self.guard

    @property
    def send_within(self) -> float:
        """How long after its grant a call may still be sent; the rest of the guard is the way to the provider."""
        return self.guard / 2


@dataclass(slots=True)
class Wish:
    """A call that wants quota: `tokens` of input (an upper estimate) and `cost` in micro-dollars at `endpoints`.

    `endpoints` are in order of preference. `lost_after` (seconds): when it counts as lost if it was
    never settled. `entry` and `score` are set by the limiter while it waits.
    """

    call_id: str
    tier: TierName
    tenant_id: str
    priority: int
    tokens: int
    cost: int
    endpoints: Sequence[Endpoint]
    lost_after: float
    person_id: str = ""
    retry: bool = False
    entry: str = ""
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one call to `endpoint` until `send_by` (event loop's clock)."""

    call_id: str
    endpoint: Endpoint
    send_by: float


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the queue (1 is next) and the expected wait in seconds."""

    position: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ComeLater:
    """No place before the deadline; whoever comes again after `seconds` gets one."""

    seconds: float
    expected: float


@dataclass(frozen=True, slots=True)
class Never:
    """The call is larger than every limit there is."""


@dataclass(frozen=True, slots=True)
class NoShare:
    """The store is gone, and this process has no share (any more) to live on."""


@dataclass(frozen=True, slots=True)
class NoRetry:
    """The fleet's retries are used up."""


Outcome = Grant | Place | ComeLater | Never | NoRetry | NoShare


@dataclass(frozen=True, slots=True)
class Polled:
    """Grants for waiting wishes, and after how many seconds asking again is worth it."""

    granted: Sequence[tuple[Wish, Grant]]
    again: float


@dataclass(slots=True)
class Settlement:
    """What a call really used.

    `adjust`: only the input tokens are known yet; `done`, `failed`: the call is over; `unsent`: it
    never went out and everything is given back.
    """

    wish: Wish
    endpoint: Endpoint
    outcome: str
    usage: Usage = field(default_factory=Usage)
    cost: int = 0


class LimiterUnavailable(Exception):
    """The limiter cannot be reached; nothing was granted."""


class Limiter(Protocol):
    """Hands out quota. Every method may raise LimiterUnavailable."""

    @property
    def epoch(self) -> int:
        """Grows whenever places in the queue may have been lost, and whoever waits must ask anew."""
        ...

    async def acquire(self, wish: Wish, patience: float) -> Outcome:
        """A grant, or a place in the queue if the wish can be granted within `patience` seconds."""
        ...

    async def poll(self, tier: TierName, waiting: Sequence[Wish]) -> Polled:
        """Grants for those of the waiting (in their order) whose turn it is."""
        ...

    async def places(self, tier: TierName, waiting: Sequence[Wish]) -> Sequence[Place]:
        """Where each of them stands now."""
        ...

    async def leave(self, tier: TierName, waiting: Sequence[Wish]) -> None:
        """Gives places up."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Enters what was really used; each that is done or failed becomes an event of the ledger."""
        ...

    async def cool(self, endpoints: Sequence[Endpoint], seconds: float, *, lower: bool = False) -> None:
        """Nothing more to these endpoints for so long; only ever extends. `lower`: an unknown limit was met."""
        ...


def pool_name(endpoint: Endpoint) -> str:
    """How a pool is called in the store and by operators: project/model/location."""
    return f"{endpoint.project}/{endpoint.model}/{endpoint.location}"


def midnights(at: float) -> tuple[int, int, int]:
    """The previous, last and next midnight in Pacific time around `at` (epoch seconds), in milliseconds.

    Daily limits end then; a day has 23, 24 or 25 hours, as daylight saving time begins and ends.
    """
    today = datetime.fromtimestamp(at, PACIFIC).date()

    def begin(days: int) -> int:
        day = today + timedelta(days=days)
        return int(datetime(day.year, day.month, day.day, tzinfo=PACIFIC).timestamp() * 1000)

    return begin(-1), begin(0), begin(1)
