"""Answers in this process's memory, for when Valkey is gone: bounded, the least recently used go first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.cache.freshness import Freshness
from services.cache.storage import (
    EVENTS_MS,
    LEASE_MS,
    MAX_EVENTS,
    MAX_EVENTS_BYTES,
    Found,
    Holding,
    Reading,
    Renewal,
    Renewed,
    State,
    Value,
    Wish,
)

# What a line costs beside its bytes, about.
_OVERHEAD = 400
_COPY_OVERHEAD = 300


@dataclass(slots=True)
class _Line:
    """All that is known of one question; the same fields as the hash in Valkey."""

    value: bytes = b""
    stored: int = 0
    cost: int = 0
    hits: int = 0
    confirmations: int = 0
    fingerprint: bytes = b""
    writer: bytes = b""
    # The last one who had a lease here.
    led: bytes = b""
    # Ends with the value's life elsewhere, where the value was only remembered.
    life: int | None = None
    holder: bytes = b""
    until: int = 0
    # When the last lease ended by its holder's word.
    ended: int = 0
    followed: bool = False
    events: dict[bytes, list[bytes]] = field(default_factory=dict)

    def size(self) -> int:
        return _OVERHEAD + len(self.value) + sum(len(event) for events in self.events.values() for event in events)


class LocalStore:
    """`storage.AnswerStore` in memory; `max_bytes` bounds what it holds, roughly."""

    def __init__(self, policy: Freshness, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._sizes: dict[bytes, int] = {}
        self._lines: OrderedDict[bytes, _Line] = OrderedDict()
        # What another store gave: value, stored at, life, cost. Most is never looked up here, so
        # that it must cost little; the collector does not visit tuples of plain values.
        self._copies: OrderedDict[bytes, tuple[bytes, int, int, int]] = OrderedDict()

    async def lookup(self, key: bytes, wish: Wish) -> Found:
        now = self._now()
        line = self._line(key)
        state, age, life = self._state(line, now, wish.max_age)
        served = state in (State.FRESH, State.STALE)
        held = line.until > now
        granted, follows = False, b""
        if served:
            due = age + max(line.cost * wish.lot, wish.ahead) >= life
            line.hits += state is State.FRESH and not wish.ahead
            granted = wish.refresh and due and not held
        elif wish.fill:
            if held and line.holder:
                line.followed, follows = True, line.holder
            else:
                granted = True
        if granted:
            line.holder, line.until, line.followed = wish.holder, now + LEASE_MS, False
            line.led = wish.holder
        self._weigh(key, line)
        return Found(state, line.value if state else b"", age, life, line.cost, granted, follows)

    async def put(self, key: bytes, holder: bytes, value: Value) -> None:
        line = self._line(key)
        if line.value and value.fingerprint and line.fingerprint == value.fingerprint:
            line.confirmations += 1
        else:
            line.hits, line.confirmations = 0, value.confirmations
        line.value, line.cost, line.fingerprint = value.data, value.cost, value.fingerprint
        line.stored, line.writer, line.life = self._now(), holder, None
        if holder and line.holder == holder:
            self._free(line)
        self._weigh(key, line)

    async def renew(self, renewals: Sequence[Renewal]) -> list[Renewed]:
        return [self._renew(one) for one in renewals]

    def _renew(self, one: Renewal) -> Renewed:
        line = self._lines.get(one.key)
        if line is None or line.holder != one.holder:
            return Renewed(Holding.LOST)
        line.until = self._now() + LEASE_MS
        if not line.followed:
            return Renewed(Holding.HELD)
        events = line.events.setdefault(one.holder, [])
        size = sum(map(len, events)) + sum(map(len, one.events))
        fits = len(events) + len(one.events) <= MAX_EVENTS and size <= MAX_EVENTS_BYTES
        if len(events) == one.first and fits:
            events.extend(one.events)
        self._weigh(one.key, line)
        return Renewed(Holding.FOLLOWED, len(events))

    async def read(self, key: bytes, holder: bytes, first: int) -> Reading:
        line = self._lines.get(key)
        if line is None:
            return Reading(False)
        events = line.events.get(holder, [])[first:]
        if line.holder == holder and line.until > self._now():
            line.followed = True
            return Reading(True, events)
        return Reading(False, events, line.value if line.writer == holder else b"")

    async def release(self, key: bytes, holder: bytes, last: bytes, pause: int) -> None:
        line = self._lines.get(key)
        if line is None or line.holder != holder:
            return
        if last and line.followed:
            line.events.setdefault(holder, []).append(last)
        self._free(line)
        if line.value and pause:
            line.until = self._now() + pause
        self._weigh(key, line)

    async def confirm(self, key: bytes) -> bool:
        line = self._line(key)
        if not line.value:
            self._weigh(key, line)
            return False
        line.confirmations += 1
        return True

    async def evict(self, key: bytes) -> bool:
        line = self._line(key)
        if not line.value:
            self._weigh(key, line)
            return False
        line.value, line.writer, line.fingerprint = b"", b"", b""
        self._weigh(key, line)
        return True

    @property
    def lines(self) -> int:
        """How many questions something is known of."""
        return len(self._lines)

    def holds(self, key: bytes, holder: bytes) -> bool:
        """True when the lease of this holder was given here."""
        line = self._lines.get(key)
        return line is not None and bool(holder) and line.holder == holder

    def knows(self, key: bytes, holder: bytes) -> bool:
        """True when this holder has or had a lease here and something is left of it."""
        line = self._lines.get(key)
        return line is not None and (line.holder == holder or holder in line.events or line.led == holder)

    def remember(self, key: bytes, found: Found) -> None:
        """Keeps what another store gave, for as long as it would have lived there."""
        copy = self._copies.get(key)
        if copy is not None:
            if copy[0] == found.value:
                return
            self._forget(key)
        self._copies[key] = (found.value, self._now() - found.age, found.life, found.cost)
        self._bytes += _COPY_OVERHEAD + len(found.value)
        self._shrink()

    def _state(self, line: _Line, now: int, max_age: int | None) -> tuple[State, int, int]:
        if not line.value:
            return State.NONE, 0, 0
        age = now - line.stored
        life = self._policy.life(line.hits, line.confirmations) if line.life is None else line.life
        if age >= self._policy.kept(life):
            line.value = line.writer = b""
            return State.NONE, 0, 0
        if max_age is not None and age > max_age:
            return State.NONE, age, life
        if age < life:
            return State.FRESH, age, life
        return State.STALE if age < life + self._policy.stale_while_revalidate else State.EXPIRED, age, life

    def _line(self, key: bytes) -> _Line:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        else:
            self._lines.move_to_end(key)
        copy = self._copies.get(key)
        if copy is not None:
            self._forget(key)
            line.value, line.stored, line.life, line.cost = copy
            line.hits = line.confirmations = 0
            line.fingerprint = line.writer = b""
        return line

    def _forget(self, key: bytes) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            self._bytes -= _COPY_OVERHEAD + len(copy[0])

    def _free(self, line: _Line) -> None:
        line.holder, line.until, line.followed, line.ended = b"", 0, False, self._now()

    def _weigh(self, key: bytes, line: _Line) -> None:
        """Counts the line anew and drops old ones until all fit. Idle lines without value go at once."""
        idle = self._now() - max(line.until, line.ended) > EVENTS_MS
        if idle and not line.value:
            self._drop(key)
            return
        if idle and line.events:
            line.events.clear()
        size = line.size()
        self._bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self._max_bytes:
            if self._copies:
                self._forget(next(iter(self._copies)))
            else:
                self._drop(next(iter(self._lines)))

    def _drop(self, key: bytes) -> None:
        self._lines.pop(key, None)
        self._bytes -= self._sizes.pop(key, 0)

    def _now(self) -> int:
        return int(self._clock() * 1000)
