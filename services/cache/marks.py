"""Purging by marks: nothing is searched for or deleted, it is no longer believed.

A purge writes a mark for what it names (a tenant, a model, a tag, an answer) with a
version, a number that only grows. An entry carries the version that was known when its
generating began, and is dead when a newer mark names anything it belongs to. Every
replica reads new marks four times a second; entries and marks never need to meet in
one slot of a cluster. When the marks themselves are lost (evicted, flushed), a new
*floor* makes everything older dead: losing them costs hits, never a purge.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from services.cache import stats
from services.cache.storage import StoreUnavailable

FLOOR = b"!"
PUBLIC = b"p"
ENTRY = b"k"
INTERVAL_SECONDS = 0.25
_LABEL_BYTES = 12
# An entry can be served for two days; what is older than its marks' reach is gone.
KEPT_SECONDS = 3 * 86_400
MAX_PUBLIC = 10_000


class MarkStore(Protocol):
    """Marks of the whole fleet. Raises StoreUnavailable."""

    async def marks(self, known: int) -> tuple[int, Sequence[tuple[bytes, int]]]:
        """The present version, and the marks that are newer than `known`."""

    async def mark(self, names: Sequence[bytes]) -> int:
        """Sets marks; the version they got."""


@dataclass(frozen=True, slots=True)
class Belongs:
    """What an entry belongs to."""

    key: bytes
    tenant: str
    model: str = ""
    tags: Sequence[str] = ()


class Marks:
    """The marks as this replica knows them. `secret` hides tenants' ids in the store."""

    def __init__(self, store: MarkStore, secret: Callable[[], bytes]) -> None:
        self._store = store
        self._secret = secret
        self._marks: dict[bytes, int] = {}
        self._floor = 0
        self._newest = 0
        # The newest mark that is not of a single entry.
        self._newest_wide = 0
        self.version = 0
        self.public: set[bytes] = set()

    def kills(self, version: int, belongs: Belongs) -> bool:
        """True when what was begun at `version` may not be given any more."""
        if version >= self._newest:
            return False
        if version < self._floor:
            return True
        if not self._marks:
            return False
        names = [ENTRY + belongs.key, self.tenant(belongs.tenant), self.model(belongs.model)]
        names += [self.tag(tag) for tag in belongs.tags]
        return any(self._marks.get(name, 0) > version for name in names)

    def may_kill(self, version: int, key: bytes) -> bool:
        """As `kills` for a fill under way, whose model and tags are not known yet."""
        return version < max(self._newest_wide, self._marks.get(ENTRY + key, 0))

    def tenant(self, tenant: str) -> bytes:
        return self._label(b"t", tenant.lower())

    def model(self, model: str) -> bytes:
        return self._label(b"m", model)

    def tag(self, tag: str) -> bytes:
        return self._label(b"g", tag)

    async def set(self, names: Sequence[bytes]) -> None:
        """Marks for the whole fleet; raises StoreUnavailable when that cannot be promised."""
        version = await self._store.mark(names)
        self._learn((name, version) for name in names)
        await self.refresh()

    async def refresh(self) -> None:
        """Reads what is new."""
        version, marks = await self._store.marks(self.version)
        if version < self.version:  # the store was lost and its clock set back
            self.version = self._floor = self._newest = self._newest_wide = 0
            self._marks.clear()
            version, marks = await self._store.marks(0)
        self._learn(marks)
        self.version = version
        oldest = version - KEPT_SECONDS * 1_000_000
        if len(self._marks) > 1000 and any(found < oldest for found in self._marks.values()):
            self._marks = {name: found for name, found in self._marks.items() if found >= oldest}

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Reads new marks while the context is open."""

        async def follow() -> None:
            heard = time.monotonic()
            while True:
                try:
                    await self.refresh()
                    heard = time.monotonic()
                except StoreUnavailable:
                    pass
                stats.MARKS_AGE.set(time.monotonic() - heard)
                await asyncio.sleep(INTERVAL_SECONDS)

        task = asyncio.create_task(follow(), name="purge marks")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _learn(self, marks: Iterable[tuple[bytes, int]]) -> None:
        for name, version in marks:
            if name[:1] != PUBLIC:
                self._newest = max(self._newest, version)
            if name == FLOOR:
                self._floor = max(self._floor, version)
                self._newest_wide = max(self._newest_wide, version)
            elif name[:1] == PUBLIC:
                self.public.add(name[1:])
            else:
                self._marks[name] = max(self._marks.get(name, 0), version)
                if name[:1] != ENTRY:
                    self._newest_wide = max(self._newest_wide, version)

    def _label(self, kind: bytes, text: str) -> bytes:
        return kind + hmac.digest(self._secret(), b"label" + kind + text.encode(), "sha256")[:_LABEL_BYTES]
