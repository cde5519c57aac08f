"""What every store of answers promises: the one in Valkey and the one in memory pass the same tests.

Per key there is at most one value and at most one lease. Whoever holds the lease
generates; others may follow what it publishes. All times are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

HOLDER_BYTES = 16
# A lease lives so long after its last renewal; three renewals fit in.
LEASE_MS = 1500
RENEW_EVERY_MS = 450
# After a failed refresh the stored answer is left alone for so long.
REFRESH_PAUSE_MS = 30_000
# How long what was published can still be read after its last event.
EVENTS_MS = 60_000
# Of one fill. What is beyond is not taken: its followers wait for the end.
MAX_EVENTS = 8192
MAX_EVENTS_BYTES = 2 << 20


class StoreUnavailable(Exception):
    """The store did not do what it was asked in time, or cannot."""


class State(IntEnum):
    """What a value is good for."""

    NONE = 0
    FRESH = 1
    # Past its end, yet good while somebody refreshes it.
    STALE = 2
    # Good only where generating fails.
    EXPIRED = 3


class Holding(IntEnum):
    """What became of a lease."""

    LOST = 0
    HELD = 1
    FOLLOWED = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What a look-up wants beside the value."""

    # The id under which a lease would be held; empty: none is wanted.
    holder: bytes = b""
    # A lease to refresh a value that is near or past its end.
    refresh: bool = False
    # A lease to generate what is not there, or else to follow who holds it.
    fill: bool = False
    # Values stored longer ago are not there; None: any age.
    max_age: int | None = None
    # See `freshness.lot`.
    lot: float = 0.0
    # A value that ends within so long is due for a refresh. Such a look-up is not counted as a hit.
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up found."""

    state: State = State.NONE
    value: bytes = b""
    age: int = 0
    # From storing to the value's end.
    life: int = 0
    # How long generating it took.
    cost: int = 0
    # The lease is the asker's.
    granted: bool = False
    # Somebody else holds it, under this id.
    follows: bytes = b""


@dataclass(frozen=True, slots=True)
class Value:
    """A value to keep."""

    data: bytes
    # Two values with one fingerprint say the same: the newer confirms the older.
    fingerprint: bytes = b""
    cost: int = 0
    # To begin with.
    confirmations: int = 0


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease to prolong; `events` are taken only when `first` of them are there already."""

    key: bytes
    holder: bytes
    first: int = 0
    events: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Renewed:
    holding: Holding
    # How many events are published.
    have: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a follower sees of a fill."""

    # False: the lease has run out or was given up, and this holder stored nothing.
    held: bool
    events: Sequence[bytes] = field(default_factory=list)
    # The value that this holder stored; empty: none yet.
    value: bytes = b""


class AnswerStore(Protocol):
    """Raises StoreUnavailable, and nothing else."""

    async def lookup(self, key: bytes, wish: Wish) -> Found:
        """One trip: the value, a lease where one is wanted and free, or who holds it."""

    async def put(self, key: bytes, holder: bytes, value: Value) -> None:
        """Keeps the value and ends the holder's lease, if it has it; `holder` may be empty."""

    async def renew(self, renewals: Sequence[Renewal]) -> list[Renewed]:
        """Prolongs leases and publishes events, all in one trip."""

    async def read(self, key: bytes, holder: bytes, first: int) -> Reading:
        """Events from `first` on; tells the holder that it is followed."""

    async def release(self, key: bytes, holder: bytes, last: bytes, pause: int) -> None:
        """Ends the holder's lease. `last`, if not empty, is published when anybody follows.

        For `pause` nobody gets a lease to refresh the value.
        """

    async def confirm(self, key: bytes) -> bool:
        """Lets the value live longer; False when there is none."""

    async def evict(self, key: bytes) -> bool:
        """Removes the value; False when there is none. A lease stays with its holder."""
