"""What each tenant asks most: counted in little memory, kept encrypted, read by whoever warms.

Counts with the Space-Saving sketch (Metwally, Agrawal, El Abbadi, ICDT 2005): of the m
questions it holds, each count is too high by at most the number of askings divided by
m, and every question asked more often than that is among them. Texts are noted only
where the caller said that they may be, and only of the tenant's own scope.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from google.protobuf.message import DecodeError

from focus.cache.v1.cache_pb2 import ListPopularResponse
from services.cache.entries import Coder, Unreadable
from services.cache.storage import StoreUnavailable

Popular = ListPopularResponse.Popular

COUNTERS = 100
MAX_TENANTS = 1000
MAX_KEPT = 200
KEPT_DAYS = 7
FLUSH_SECONDS = 10.0
MAX_TEXT_CHARS = 4096

_BOUND = b"popular"


class PopularStore(Protocol):
    """Counts of the whole fleet. Raises StoreUnavailable."""

    async def add_popular(self, tenant: bytes, counts: Mapping[bytes, tuple[int, bytes]]) -> None:
        """Adds counts of items, each with its sealed text."""

    async def popular(self, tenants: Sequence[bytes], limit: int) -> list[tuple[int, bytes]]:
        """Counts and sealed texts, per tenant the largest count first; no tenants: all."""


class Sketch:
    """Space-Saving over one stream of items."""

    def __init__(self, counters: int = COUNTERS) -> None:
        self._counters = counters
        self.counts: dict[bytes, int] = {}

    def note(self, item: bytes) -> bytes | None:
        """Counts one; the item that had to make way, if any."""
        counts = self.counts
        if item in counts:
            counts[item] += 1
            return None
        if len(counts) < self._counters:
            counts[item] = 1
            return None
        least = min(counts, key=counts.__getitem__)
        counts[item] = counts.pop(least) + 1
        return least


class _Tenant:
    def __init__(self) -> None:
        self.sketch = Sketch()
        self.texts: dict[bytes, Popular] = {}
        # What of each count the fleet's store knows already.
        self.flushed: dict[bytes, int] = {}


class PopularQuestions:
    """The sketches of this replica; at most 1,000 tenants, the one that asked longest ago goes first.

    `label` names a tenant in the store.
    """

    def __init__(self, store: PopularStore, coder: Coder, label: Callable[[str], bytes]) -> None:
        self._store = store
        self._coder = coder
        self._label = label
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    def note(self, key: bytes, question: Popular) -> None:
        """Counts one asking of a question whose text may be kept."""
        name = question.principal.tenant_id
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant()
            if len(self._tenants) > MAX_TENANTS:
                self._tenants.popitem(last=False)
        else:
            self._tenants.move_to_end(name)
        gone = tenant.sketch.note(key)
        if gone is not None:
            tenant.texts.pop(gone, None)
            # The newcomer took over the other's count, and what is known of it.
            tenant.flushed[key] = tenant.flushed.pop(gone, 0)
        if key not in tenant.texts:
            tenant.texts[key] = question

    async def flush(self) -> None:
        """Adds what is new to the fleet's counts. Raises StoreUnavailable; then it is added the next time."""
        for name, tenant in list(self._tenants.items()):
            fresh = {
                key: (count - tenant.flushed.get(key, 0), tenant.texts[key])
                for key, count in tenant.sketch.counts.items()
                if count > tenant.flushed.get(key, 0)
            }
            if not fresh:
                continue
            seen = dict(tenant.sketch.counts)
            await self._store.add_popular(
                self._label(name),
                {key: (count, self._seal(question)) for key, (count, question) in fresh.items()},
            )
            tenant.flushed = {key: seen[key] for key in tenant.sketch.counts if key in seen}

    async def list(self, tenants: Sequence[str], limit: int) -> list[Popular]:
        """The fleet's counts, per tenant the most asked first. Raises StoreUnavailable."""
        await self.flush()
        found = await self._store.popular([self._label(tenant) for tenant in tenants], limit)
        questions: list[Popular] = []
        for count, sealed in found:
            try:
                question = Popular.FromString(self._coder.open(sealed, _BOUND))
            except (Unreadable, DecodeError):  # a key that is gone: the text is lost, as it should be
                continue
            question.count = count
            questions.append(question)
        return questions

    @asynccontextmanager
    async def flushed(self) -> AsyncIterator[None]:
        """Flushes now and then while the context is open, and at its end."""

        async def often() -> None:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                await self._try()

        task = asyncio.create_task(often(), name="popular questions")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._try()

    async def _try(self) -> None:
        try:
            await self.flush()
        except StoreUnavailable:
            return

    def _seal(self, question: Popular) -> bytes:
        return self._coder.seal(question.SerializeToString(), _BOUND)
