"""The process as a holder of leases, and the one heartbeat that keeps them all.

A lease lives while its holder's row does (2 s); the row is renewed every 0.6 s, so that
two lost beats do no harm. A lease whose release is in doubt must be able to run out:
then the process goes on under a new id, and the old one is renewed only for the
leases that are known to be in use under it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from focus.session.v1 import turn_pb2
from services.common import context, logs
from services.common.errors import FocusError

log = logs.get(__name__)

INTERVAL_SECONDS = 0.6
TIMEOUT_SECONDS = 0.6


class Renewals(Protocol):
    """What a holder needs of the session service."""

    async def renew(self, request: turn_pb2.RenewHolderRequest, *, timeout: float) -> turn_pb2.RenewHolderResponse: ...


class Hold:
    """One use of a holder's id, for one lease."""

    __slots__ = ("_holder", "holder_id")

    def __init__(self, holder: Holder, holder_id: str) -> None:
        self._holder = holder
        self.holder_id = holder_id

    def doubt(self) -> None:
        """The lease may stay behind: let it run out once the others under this id have ended."""
        self._holder.retire(self.holder_id)


class Holder:
    """Gives out holds and renews the ids that are in use."""

    def __init__(self, renewals: Renewals, *, interval: float = INTERVAL_SECONDS) -> None:
        self._renewals = renewals
        self._interval = interval
        self._current = str(uuid.uuid4())
        self._uses: dict[str, int] = {}
        self._used = asyncio.Event()

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """The heartbeat, while the context is open."""
        task = asyncio.create_task(self._beat(), name="renew the holder")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """An id to take a lease with; it is kept alive until the context closes."""
        holder_id = self._current
        self._uses[holder_id] = self._uses.get(holder_id, 0) + 1
        self._used.set()
        try:
            yield Hold(self, holder_id)
        finally:
            self._uses[holder_id] -= 1
            if not self._uses[holder_id]:
                del self._uses[holder_id]
                if not self._uses:
                    self._used.clear()

    def retire(self, holder_id: str) -> None:
        """New holds get another id."""
        if holder_id == self._current:
            self._current = str(uuid.uuid4())

    async def _beat(self) -> None:
        context.bind()
        while True:
            await self._used.wait()
            await asyncio.gather(*(self._renew(holder_id) for holder_id in list(self._uses)))
            await asyncio.sleep(self._interval)

    async def _renew(self, holder_id: str) -> None:
        try:
            await self._renewals.renew(turn_pb2.RenewHolderRequest(holder_id=holder_id), timeout=TIMEOUT_SECONDS)
        except FocusError as err:
            # The next beat comes soon; a lease that runs out meanwhile is told at the commit.
            log.warning("heartbeat failed", reason=err.reason_name)
