"""The process as a holder of leases, and the one heartbeat that keeps them all.

A lease lives while its holder's row does (2 s); the row is renewed every 0.6 s, so that
two lost beats do no harm. An idle process writes nothing: its next lease is preceded
by a renewal. The beat's answer names turns that were cancelled through other processes.
A turn that may have been left behind is abandoned; where even that cannot be said, the
process goes on under a new id and lets the old one run out.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import turn_pb2
from services.common import context, logs
from services.common.errors import DeadlineExceeded, FocusError, Unavailable

log = logs.get(__name__)

INTERVAL_SECONDS = 0.6
TIMEOUT_SECONDS = 0.6
# A row renewed longer ago than this may be gone by the time that a begin looks at it.
_FRESH_SECONDS = 1.2
# The beat goes on a while after the last lease, so that a busy process never waits for one.
_LINGER_SECONDS = 30.0
_ABANDON_SECONDS = 2.0
_ABANDON_PAUSES = (0.2, 1.0, 3.0)
_RELEASE_SECONDS = 1.0


class Renewals(Protocol):
    """What a holder needs of the session service."""

    async def renew(self, request: turn_pb2.RenewHolderRequest, *, timeout: float) -> turn_pb2.RenewHolderResponse: ...

    async def release(
        self, request: turn_pb2.ReleaseHolderRequest, *, timeout: float
    ) -> turn_pb2.ReleaseHolderResponse: ...


class Holder:
    """Gives out its id for leases and renews what is in use. Used within `beating`."""

    def __init__(
        self,
        renewals: Renewals,
        *,
        interval: float = INTERVAL_SECONDS,
        abandon_pauses: Sequence[float] = _ABANDON_PAUSES,
    ) -> None:
        self._renewals = renewals
        self._interval = interval
        self._abandon_pauses = abandon_pauses
        self._current = str(uuid.uuid4())
        self._uses: dict[str, int] = {}
        self._renewed_at: dict[str, float] = {}
        self._last_used = 0.0
        self._wanted = asyncio.Event()
        self._abandoning: set[asyncio.Task[None]] = set()
        self._stop: Callable[[str], object] = _nobody
        # By holder: what the next beat tells to have been stopped.
        self._stopped: dict[str, list[str]] = {}

    @asynccontextmanager
    async def beating(self, stop: Callable[[str], object] | None = None) -> AsyncIterator[None]:
        """The heartbeat, while the context is open; at its end everything still held is freed.

        `stop` hears the ids of turns that were cancelled elsewhere, sometimes twice, and of some that do not run here.
        """
        self._stop = stop or _nobody
        task = asyncio.create_task(self._beat(), name="renew the holder")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._abandoning:
                await asyncio.wait(self._abandoning, timeout=_RELEASE_SECONDS)
            await asyncio.gather(*(self._release(holder_id) for holder_id in {*self._uses, *self._renewed_at}))

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[str]:
        """The id to take a lease with; it is kept alive until the context closes.

        Raises Unavailable (STORE_UNAVAILABLE) when the id had to be renewed and could not be: a
        begin would fail as well, only later.
        """
        holder_id = self._current
        self._uses[holder_id] = self._uses.get(holder_id, 0) + 1
        self._last_used = time.monotonic()
        try:
            if self._last_used - self._renewed_at.get(holder_id, 0.0) > _FRESH_SECONDS:
                await self._renew_now(holder_id)
            self._wanted.set()
            yield holder_id
        finally:
            self._last_used = time.monotonic()
            self._uses[holder_id] -= 1
            if not self._uses[holder_id]:
                del self._uses[holder_id]

    def abandon(self, holder_id: str, give_up: Callable[[float], Awaitable[object]]) -> None:
        """Calls `give_up(timeout)` in the background until it succeeds; else lets the id run out.

        For a turn or ask of which it is not known whether the session service thinks it is ours.
        """
        task = asyncio.create_task(self._abandon(holder_id, give_up), name="abandon")
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)

    async def _abandon(self, holder_id: str, give_up: Callable[[float], Awaitable[object]]) -> None:
        for pause in (0.0, *self._abandon_pauses):
            await asyncio.sleep(pause)
            try:
                await give_up(_ABANDON_SECONDS)
            except FocusError as err:
                log.info("a turn could not be abandoned", reason=err.reason_name)
            else:
                return
        if holder_id == self._current:
            self._current = str(uuid.uuid4())

    async def _beat(self) -> None:
        context.bind()
        while True:
            await self._wanted.wait()
            if not self._uses and time.monotonic() - self._last_used > _LINGER_SECONDS:
                self._wanted.clear()
                continue
            started = time.monotonic()
            await asyncio.gather(*(self._renew(holder_id) for holder_id in {*self._uses, self._current}))
            for holder_id in set(self._renewed_at) - {*self._uses, self._current}:
                del self._renewed_at[holder_id]
                self._stopped.pop(holder_id, None)
            await asyncio.sleep(max(0.0, self._interval - (time.monotonic() - started)))

    async def _renew(self, holder_id: str) -> None:
        try:
            await self._renew_once(holder_id)
        except FocusError as err:
            # The next beat comes soon; a lease that runs out meanwhile is told at the commit.
            log.warning("heartbeat failed", reason=err.reason_name)
        except Exception as err:
            # A defect must not end the heartbeat: all leases of this process would lapse unseen.
            log.error("heartbeat failed by a defect; the next one follows", exc_info=err)

    async def _renew_now(self, holder_id: str) -> None:
        try:
            await self._renew_once(holder_id)
        except DeadlineExceeded:
            raise Unavailable(
                "The store of conversations does not answer right now; try again in a moment.",
                ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
                retry_after=1.0,
            ) from None

    async def _renew_once(self, holder_id: str) -> None:
        started = time.monotonic()
        # Should this beat be lost, they are told once more, and stopped once more.
        stopped = self._stopped.pop(holder_id, ())
        request = turn_pb2.RenewHolderRequest(holder_id=holder_id, stopped_turn_ids=stopped)
        response = await self._renewals.renew(request, timeout=TIMEOUT_SECONDS)
        self._renewed_at[holder_id] = started
        for turn_id in response.cancelled_turn_ids:
            self._stop(turn_id)
            self._stopped.setdefault(holder_id, []).append(turn_id)

    async def _release(self, holder_id: str) -> None:
        try:
            await self._renewals.release(turn_pb2.ReleaseHolderRequest(holder_id=holder_id), timeout=_RELEASE_SECONDS)
        except FocusError as err:
            log.info("the holder was not released and runs out by itself", reason=err.reason_name)


def _nobody(turn_id: str) -> None:
    """Runs no turns."""
