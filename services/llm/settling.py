"""Settles calls behind their answers' backs, several in one trip.

An answer need not wait for its entry in the ledger: should the process end before, the store books
the call as it was estimated (see `store/lua/member.lua`).
"""

from __future__ import annotations

import asyncio

from services.common import logs
from services.llm.quota import Limiter, LimiterUnavailable, Settlement

log = logs.get(__name__)

_BATCH = 100


class Settler:
    """`run` must be running; `flush` settles what is left."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._due: list[Settlement] = []
        self._news = asyncio.Event()

    def add(self, settlement: Settlement) -> None:
        """Will be settled soon, in the order of adding."""
        self._due.append(settlement)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self.flush()

    async def flush(self) -> None:
        """Settles everything that is due."""
        while self._due:
            batch, self._due = self._due[:_BATCH], self._due[_BATCH:]
            try:
                await self._limiter.settle(batch)
            except LimiterUnavailable:
                log.warning("calls could not be settled", calls=len(batch))
