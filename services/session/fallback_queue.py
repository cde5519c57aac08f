"""Order from Valkey, and from PostgreSQL alone while Valkey is gone.

Waiters show themselves twice a second, with the time of their arrival, to whichever of
the two answers; so all of them have moved within a tick, in the same order, and back
again when Valkey is. Between the two, one tick long, nobody counts as the first.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from services.common import logs
from services.common.errors import Unavailable
from services.session.line import Queue, Spot, Standing

log = logs.get(__name__)

T = TypeVar("T")

# After a failure Valkey is left alone this long, so that its time-out is not added to every call.
_PAUSE_SECONDS = 1.0


class FallbackQueue:
    """`Queue`: the first one while it answers, else the second."""

    def __init__(self, first: Queue, second: Queue) -> None:
        self._first = first
        self._second = second
        self._resume_at = 0.0
        self._fallen_back = False
        # Turns with a place in the second queue.
        self._moved: set[str] = set()

    async def join(self, conversation_id: str, turn_id: str) -> Spot | None:
        """Takes the last place, or keeps the one it has; None when the queue is full."""

        async def second() -> Spot | None:
            self._moved.add(turn_id)
            return await self._second.join(conversation_id, turn_id)

        return await self._call(lambda: self._first.join(conversation_id, turn_id), second)

    async def show(self, conversation_id: str, waiters: Sequence[tuple[str, int]]) -> Standing:
        """These turns still wait; puts back those that are not known."""

        async def second() -> Standing:
            self._moved.update(turn for turn, _ in waiters)
            return await self._second.show(conversation_id, waiters)

        return await self._call(lambda: self._first.show(conversation_id, waiters), second)

    async def leave(self, conversation_id: str, turn_id: str) -> int:
        """Gives a place up, in both where it may have one; says how many still wait."""
        left = 0
        if turn_id in self._moved:
            self._moved.discard(turn_id)
            left = await self._second.leave(conversation_id, turn_id)
        if time.monotonic() < self._resume_at:
            return left
        try:
            return left + await self._first.leave(conversation_id, turn_id)
        except Unavailable:
            self._pause()
            return left

    async def holds(self, conversation_id: str, turn_id: str) -> bool:
        """True while the turn has a place."""
        return await self._call(
            lambda: self._first.holds(conversation_id, turn_id),
            lambda: self._second.holds(conversation_id, turn_id),
        )

    async def wake(self, conversation_id: str, after: str) -> None:
        """Tells the first waiter, wherever it is, to look now."""
        await self._call(
            lambda: self._first.wake(conversation_id, after),
            lambda: self._second.wake(conversation_id, after),
        )

    async def _call(self, first: Callable[[], Awaitable[T]], second: Callable[[], Awaitable[T]]) -> T:
        if time.monotonic() >= self._resume_at:
            try:
                found = await first()
            except Unavailable:
                self._pause()
            else:
                self._resume()
                return found
        return await second()

    def _pause(self) -> None:
        self._resume_at = time.monotonic() + _PAUSE_SECONDS
        if not self._fallen_back:
            log.warning("Valkey is gone: turns are ordered by PostgreSQL alone, more slowly")
        self._fallen_back = True

    def _resume(self) -> None:
        if self._fallen_back:
            log.info("Valkey is back: it orders the turns again")
        self._fallen_back = False
