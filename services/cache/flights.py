"""Following fills: one look at the store per fill and replica, however many follow.

A flight is one fill that somebody here follows. A task reads its new pieces from the
store while it has followers, and hands them on through a list that each follower
walks at its own pace: a slow one holds nobody up and needs no queue. When the filler
is gone, the task asks for the lease; with it one follower is told to lead, the others
start again from nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from focus.cache.v1.cache_pb2 import Fill, FillEvent, FollowResponse
from focus.errors.v1.reason_pb2 import ErrorReason
from services.cache import stats
from services.cache.answers import Answers, Hit
from services.cache.entries import Coder, Unreadable
from services.cache.marks import Marks
from services.cache.storage import LEASE_MS, RENEW_EVERY_MS, AnswerStore, State, StoreUnavailable, Wish
from services.cache.tokens import FillToken, new_holder
from services.common import errors

_POLL_SECONDS = 0.025
# Nothing came for a while: look less often.
_IDLE_SECONDS = 0.06
_IDLE_AFTER = 20


@dataclass(eq=False, slots=True)
class Flight:
    """A fill as its followers here see it."""

    key: bytes
    holder: bytes
    tenant: str
    pieces: list[FollowResponse] = field(default_factory=list)
    # Counts the fillers.
    attempt: int = 0
    end: FollowResponse | None = None
    # Leases that a follower is to take.
    leads: list[bytes] = field(default_factory=list)
    followers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wakes every follower."""
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def text(self) -> str:
        return "".join(message.piece.delta for message in self.pieces)


class Flights:
    """All fills that are followed on this replica; at most `max_followers` followers."""

    def __init__(self, store: AnswerStore, answers: Answers, coder: Coder, marks: Marks, max_followers: int) -> None:
        self._store = store
        self._answers = answers
        self._coder = coder
        self._marks = marks
        self._max_followers = max_followers
        self._followers = 0
        self._flights: dict[tuple[bytes, bytes], Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ends all watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def follow(self, key: bytes, holder: bytes, tenant: str) -> AsyncGenerator[FollowResponse, None]:
        """The fill from its start; the last message is finished, failed or lead. Raises Exhausted."""
        if self._followers >= self._max_followers:
            raise errors.Exhausted(
                "Too many follow others' answers on this replica; generate the answer yourself.",
                ErrorReason.ERROR_REASON_OVERLOADED,
            )
        flight = self._join(key, holder, tenant)
        try:
            attempt, sent = flight.attempt, 0
            while True:
                changed = flight.changed
                if flight.leads:
                    yield _lead(flight.key, flight.leads.pop(), leased=True)
                    return
                if attempt != flight.attempt:
                    if sent:
                        yield FollowResponse(restarted=FollowResponse.Restarted())
                    attempt, sent = flight.attempt, 0
                elif sent < len(flight.pieces):
                    # Only this follower waits here when it reads slowly.
                    yield flight.pieces[sent]
                    sent += 1
                elif flight.end is not None:
                    if flight.end.HasField("finished"):
                        stats.SAVED.labels("coalesced").inc(flight.end.finished.answer.cost_microusd)
                    yield flight.end
                    return
                else:
                    await changed.wait()
        finally:
            self._leave(flight)

    def _join(self, key: bytes, holder: bytes, tenant: str) -> Flight:
        flight = self._flights.get((key, holder))
        if flight is None:
            flight = self._flights[key, holder] = Flight(key, holder, tenant)
            task = asyncio.create_task(self._watch(flight), name="flight")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            stats.FLIGHTS.inc()
        flight.followers += 1
        self._followers += 1
        stats.FOLLOWERS.inc()
        return flight

    def _leave(self, flight: Flight) -> None:
        flight.followers -= 1
        self._followers -= 1
        stats.FOLLOWERS.dec()

    async def _watch(self, flight: Flight) -> None:
        idle, heard = 0, time.monotonic()
        try:
            while flight.followers > 0 and flight.end is None:
                try:
                    alive, news = await self._read(flight)
                    heard = time.monotonic()
                except StoreUnavailable:
                    # The filler may be well; without the store nobody can tell after its lease's time.
                    alive, news = time.monotonic() - heard < LEASE_MS / 1000, False
                if not alive and flight.end is None:
                    await self._take_over(flight)
                    heard, news = time.monotonic(), True
                if news:
                    flight.tell()
                idle = 0 if news else idle + 1
                await asyncio.sleep(_POLL_SECONDS if idle < _IDLE_AFTER else _IDLE_SECONDS)
        finally:
            self._flights.pop((flight.key, flight.holder), None)
            stats.FLIGHTS.dec()
            if flight.end is None:
                # Nobody is left, or this replica stops: whoever still waits must go on alone.
                flight.end = _lead(flight.key, flight.holder, leased=False)
            flight.tell()

    async def _read(self, flight: Flight) -> tuple[bool, bool]:
        """Whether the filler lives or has ended well, and whether something is new."""
        reading = await self._store.read(flight.key, flight.holder, len(flight.pieces))
        for sealed in reading.events:
            try:
                message = FollowResponse.FromString(self._coder.open(sealed, flight.key + flight.holder))
            except (Unreadable, DecodeError):
                stats.UNREADABLE.labels("event").inc()
                flight.end = _lead(flight.key, flight.holder, leased=False)
                return True, True
            if message.HasField("piece"):
                flight.pieces.append(message)
            else:
                self._finish(flight, message)
        if reading.value and flight.end is None:
            self._finish_with(flight, self._answers.hit_of(flight.tenant, flight.key, reading.value))
        return reading.held or flight.end is not None, bool(reading.events) or flight.end is not None

    async def _take_over(self, flight: Flight) -> None:
        stats.TAKEOVERS.inc()
        holder = new_holder(self._marks.version)
        found = await self._store.lookup(flight.key, Wish(holder, fill=True))
        if found.state in (State.FRESH, State.STALE):
            self._finish_with(flight, self._answers.hit_of(flight.tenant, flight.key, found.value))
            return
        if found.granted:
            flight.leads.append(holder)
        self._flights.pop((flight.key, flight.holder), None)
        flight.holder = holder if found.granted else found.follows
        flight.pieces, flight.attempt = [], flight.attempt + 1
        self._flights.setdefault((flight.key, flight.holder), flight)

    def _finish_with(self, flight: Flight, hit: Hit | None) -> None:
        """Ends the flight with what was stored; where that is of no use, everybody goes on alone."""
        if hit is None:
            flight.end = _lead(flight.key, flight.holder, leased=False)
            return
        finished = FollowResponse.Finished(answer=hit.entry.answer, entry=hit.token)
        self._finish(flight, FollowResponse(finished=finished))

    def _finish(self, flight: Flight, end: FollowResponse) -> None:
        """Ends the flight; what of the text was not published comes as one more delta."""
        if end.HasField("finished"):
            text, seen = end.finished.answer.text, flight.text
            if not text.startswith(seen):
                # The filler published something else than it stored: only what was stored counts.
                flight.pieces, flight.attempt, seen = [], flight.attempt + 1, ""
            if len(text) > len(seen):
                flight.pieces.append(FollowResponse(piece=FillEvent(delta=text[len(seen) :])))
        flight.end = end


def _lead(key: bytes, holder: bytes, *, leased: bool) -> FollowResponse:
    token = FillToken(key, holder, leased).encode()
    fill = Fill(token=token, leased=leased, renew_every_ms=RENEW_EVERY_MS if leased else 0)
    return FollowResponse(lead=FollowResponse.Lead(fill=fill))
