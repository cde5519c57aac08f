"""The fleet's store while it can be reached, this replica's memory while it cannot.

The same interface as the stores it wraps. A look-up that gets no reply within the
budget goes on in memory, with the single-flight of this replica; leases stay where
they were given.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.cache import stats
from services.cache.local import LocalStore
from services.cache.storage import (
    AnswerStore,
    Found,
    Holding,
    Reading,
    Renewal,
    Renewed,
    State,
    StoreUnavailable,
    Value,
    Wish,
)


class FallbackStore:
    """`storage.AnswerStore`; only what must be true for the whole fleet raises StoreUnavailable."""

    def __init__(self, fleet: AnswerStore, local: LocalStore) -> None:
        self._fleet = fleet
        self._local = local

    async def lookup(self, key: bytes, wish: Wish) -> Found:
        try:
            found = await self._fleet.lookup(key, wish)
        except StoreUnavailable:
            stats.UNAVAILABLE.labels("lookup").inc()
            return await self._local.lookup(key, wish)
        if found.state is State.FRESH:
            self._local.remember(key, found)
        return found

    async def put(self, key: bytes, holder: bytes, value: Value) -> None:
        """Raises StoreUnavailable when only this replica has the value."""
        await self._local.put(key, holder, value)
        try:
            await self._fleet.put(key, holder, value)
        except StoreUnavailable:
            stats.UNAVAILABLE.labels("put").inc()
            raise

    async def renew(self, renewals: Sequence[Renewal]) -> list[Renewed]:
        """A lease of the fleet's store counts as held while that cannot be asked."""
        here = [one for one in renewals if self._local.holds(one.key, one.holder)]
        there = [one for one in renewals if not self._local.holds(one.key, one.holder)]
        renewed = dict(zip(map(id, here), await self._local.renew(here), strict=True))
        try:
            replies = await self._fleet.renew(there)
        except StoreUnavailable:
            stats.UNAVAILABLE.labels("renew").inc()
            replies = [Renewed(Holding.HELD)] * len(there)
        renewed.update(zip(map(id, there), replies, strict=True))
        return [renewed[id(one)] for one in renewals]

    async def read(self, key: bytes, holder: bytes, first: int) -> Reading:
        """Raises StoreUnavailable while a fill of the fleet's store cannot be seen."""
        if self._local.knows(key, holder):
            return await self._local.read(key, holder, first)
        return await self._fleet.read(key, holder, first)

    async def release(self, key: bytes, holder: bytes, last: bytes, pause: int) -> None:
        await self._local.release(key, holder, last, pause)
        try:
            await self._fleet.release(key, holder, last, pause)
        except StoreUnavailable:
            stats.UNAVAILABLE.labels("release").inc()

    async def confirm(self, key: bytes) -> bool:
        """Raises StoreUnavailable."""
        await self._local.confirm(key)
        return await self._fleet.confirm(key)

    async def evict(self, key: bytes) -> bool:
        """Raises StoreUnavailable."""
        await self._local.evict(key)
        return await self._fleet.evict(key)
