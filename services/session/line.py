"""Who waits for which conversation, as one process sees it.

The queue itself (`Queue`) is shared by all processes. Here every conversation that
somebody waits for in this process has a room: it shows the queue that its waiters
still live, learns their positions from it, and passes wake-ups on. Nobody waits
without having looked once after queueing, so no wake-up is lost; a wake-up that does
get lost costs the first waiter a second at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import logs
from services.common.errors import Exhausted, FocusError
from services.session import tickets

log = logs.get(__name__)

# Waiters are seen this often; unseen for PLACE_TTL they have lost their place.
TICK_SECONDS = 0.5
PLACE_TTL = 2.0
# Woken or not, the first waiter looks this often; well within the 3 s that a queue's mark lives.
_LOOK_SECONDS = 1.0
# After a queue was lost (a wiped Valkey), its waiters come back within a tick; nobody counts as
# the first before that.
_SETTLE_SECONDS = 1.3 * TICK_SECONDS
# Older than this, a ticket is only good while its place is there.
_TICKET_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A place just taken: when, in microseconds since 1970, and how many are before it, plus one."""

    arrived: int
    position: int


@dataclass(frozen=True, slots=True)
class Standing:
    """The queue as it stands, first first, and which of the shown waiters it had not known."""

    order: Sequence[str]
    returned: frozenset[str]
    # False: nobody is woken from other processes, so that the first must look often.
    wakes: bool = True


class Queue(Protocol):
    """The order of all processes' waiters, by time of arrival.

    A waiter that is not shown for PLACE_TTL is gone. Calls raise Unavailable when the
    queue cannot be reached.
    """

    async def join(self, conversation_id: str, turn_id: str) -> Spot | None:
        """Takes the last place, or keeps the one it has; None when the queue is full."""

    async def show(self, conversation_id: str, waiters: Sequence[tuple[str, int]]) -> Standing:
        """These turns (with their arrival) still wait here; puts back those that are not known."""

    async def leave(self, conversation_id: str, turn_id: str) -> int:
        """Gives a place up; says how many still wait."""

    async def holds(self, conversation_id: str, turn_id: str) -> bool:
        """True while the turn has a place."""

    async def wake(self, conversation_id: str, after: str) -> None:
        """Tells the first waiter, wherever it is, to look now; `after` waits no more, if it is still there."""


class Place:
    """One waiter of this process."""

    def __init__(self, turn_id: str, arrived: int) -> None:
        self.turn_id = turn_id
        self.arrived = arrived
        self.position = 0
        # Set by the waiter: it has its turn, so that its leaving is no reason to wake the next.
        self.has_turn = False
        # After leaving: nobody waits any more.
        self.last = False
        # When the waiter, if first, is to look unasked (the event loop's time), and how often.
        self.look_at = 0.0
        self.look_seconds = _LOOK_SECONDS
        self._settles_at = 0.0
        self._event = asyncio.Event()
        self._woken = False

    @property
    def first(self) -> bool:
        """True when it is this one's turn to try."""
        return self.position == 1 and _now() >= self._settles_at

    def take_wake(self) -> bool:
        """True once for every wake-up."""
        woken, self._woken = self._woken, False
        return woken

    async def changed(self, timeout: float) -> None:
        """Returns after a wake-up, a new position, or `timeout` seconds."""
        if self.position == 1 and self._settles_at > _now():
            timeout = min(timeout, self._settles_at - _now())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(timeout, 0.0)):
                await self._event.wait()
        self._event.clear()

    def wake(self) -> None:
        """Look now."""
        self._woken = True
        self._event.set()

    def stand(self, standing: Standing) -> None:
        """Takes over what the queue says."""
        if self.turn_id in standing.returned:
            self._settles_at = _now() + _SETTLE_SECONDS
            self._event.set()
        self.look_seconds = _LOOK_SECONDS if standing.wakes else _LOOK_SECONDS / 5
        self.move(standing.order.index(self.turn_id) + 1)

    def move(self, position: int) -> None:
        """Takes another position."""
        if position != self.position:
            self.position = position
            self._event.set()


class _Room:
    """A conversation's waiters in this process."""

    def __init__(self) -> None:
        self.users = 0
        self.places: dict[str, Place] = {}
        # Showing and leaving never overlap: a show under way would put back who has left.
        self.lock = asyncio.Lock()
        self.ticking: asyncio.Task[None] | None = None


class Line:
    """This process's end of the queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._rooms: dict[str, _Room] = {}

    async def join(self, conversation_id: str, turn_id: str) -> Spot:
        """Takes a place. It lasts PLACE_TTL unless `place` follows. Raises Exhausted (QUEUE_FULL)."""
        spot = await self._queue.join(conversation_id, turn_id)
        if spot is None:
            raise Exhausted(
                "Too many turns already wait for this conversation; try again when some are answered.",
                ErrorReason.ERROR_REASON_QUEUE_FULL,
                retry_after=2.0,
            )
        return spot

    @asynccontextmanager
    async def place(self, conversation_id: str, turn_id: str, arrived: int) -> AsyncIterator[Place]:
        """Keeps a place for as long as the block runs, and gives it up at its end.

        Raises NotFound (TICKET_UNKNOWN) for a place that was lost long ago.
        """
        place = Place(turn_id, arrived)
        room = self._rooms.setdefault(conversation_id, _Room())
        room.users += 1
        try:
            async with room.lock:
                standing = await self._queue.show(conversation_id, [(turn_id, arrived)])
                room.places[turn_id] = place
                place.stand(standing)
            if turn_id in standing.returned and time.time() - arrived / 1e6 > _TICKET_SECONDS:
                raise tickets.unknown()
            if room.ticking is None:
                room.ticking = asyncio.create_task(self._tick(conversation_id, room))
            yield place
        finally:
            # Shielded: whoever is cancelled here must still give the place up.
            await asyncio.shield(asyncio.ensure_future(self._leave(conversation_id, room, place)))

    async def leave(self, conversation_id: str, turn_id: str) -> int | None:
        """Gives up a place; says how many still wait, None: unknown, the place will run out."""
        try:
            return await self._queue.leave(conversation_id, turn_id)
        except FocusError as err:
            log.info("a place in a queue was left to run out", reason=err.reason_name)
            return None

    async def waits(self, conversation_id: str, turn_id: str) -> bool:
        """True while the turn has a place in the queue, in whichever process."""
        room = self._rooms.get(conversation_id)
        return (room is not None and turn_id in room.places) or await self._queue.holds(conversation_id, turn_id)

    async def wake(self, conversation_id: str, after: str) -> None:
        """The turn `after` has freed the lease. Failing is no harm: the first waiter looks by itself soon."""
        room = self._rooms.get(conversation_id)
        for place in room.places.values() if room else ():
            if place.first and not place.has_turn:
                place.wake()
                return
        try:
            await self._queue.wake(conversation_id, after)
        except FocusError as err:
            log.info("a waiter was not woken", reason=err.reason_name)

    def woken(self, conversation_id: str, turn_id: str) -> None:
        """A wake-up has arrived for a waiter of this process, which is the first now."""
        room = self._rooms.get(conversation_id)
        place = room.places.get(turn_id) if room else None
        if place is not None:
            place.move(1)
            place.wake()

    async def _leave(self, conversation_id: str, room: _Room, place: Place) -> None:
        async with room.lock:
            # The caller may be back already, on a new stream: then the place is that one's.
            mine = room.places.get(place.turn_id, place) is place
            if mine:
                room.places.pop(place.turn_id, None)
            room.users -= 1
            if not room.users:
                del self._rooms[conversation_id]
                if room.ticking is not None:
                    room.ticking.cancel()
            if mine:
                place.last = await self.leave(conversation_id, place.turn_id) == 0
        if not mine:
            return
        for other in room.places.values():
            if other.position > place.position:
                if place.has_turn:
                    # It need not look yet: the commit will wake it.
                    other.look_at = max(other.look_at, _now() + other.look_seconds)
                other.move(other.position - 1)
        if place.position == 1 and not place.has_turn:
            # It may have been woken in vain.
            await self.wake(conversation_id, place.turn_id)

    async def _tick(self, conversation_id: str, room: _Room) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            async with room.lock:
                waiters = [(place.turn_id, place.arrived) for place in room.places.values()]
                try:
                    standing = await self._queue.show(conversation_id, waiters)
                except FocusError as err:
                    log.info("a queue was not seen", reason=err.reason_name)
                    continue
                for place in room.places.values():
                    place.stand(standing)


def _now() -> float:
    return asyncio.get_running_loop().time()
