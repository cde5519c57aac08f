"""Keeps refused keys out of use, over the whole fleet: a bad key costs one call, not one per process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from services.common import logs
from services.llm import measures
from services.llm.keys import Key, KeyRing
from services.llm.quota import LimiterUnavailable

log = logs.get(__name__)

_BASE = 300.0
_LONGEST = 6 * 3600.0


class RefusedKeys(Protocol):
    """Where the fleet keeps the fingerprints of refused keys."""

    keys_version: int

    async def quarantine(self, fingerprint: str, base: float, longest: float) -> Mapping[str, float]: ...

    async def pardon(self, fingerprint: str) -> Mapping[str, float]: ...

    async def refused_keys(self) -> Mapping[str, float]: ...


class Quarantine:
    """Without a store, or while it is gone, the list is this process's own."""

    def __init__(self, keys: KeyRing, store: RefusedKeys | None) -> None:
        self._keys = keys
        self._store = store
        self._version = 0
        self._own: dict[str, float] = {}
        self._suspects: set[str] = set()

    async def refresh(self) -> None:
        """Takes the fleet's list over, if it has changed; costs nothing if not."""
        if self._store is None or self._store.keys_version == self._version:
            return
        try:
            refused = await self._store.refused_keys()
        except LimiterUnavailable:
            return
        self._version = self._store.keys_version
        self._take(refused)

    async def put(self, key: Key, *, leaked: bool) -> None:
        """The provider has refused the key."""
        log.error("key refused, quarantined", project=key.project, fingerprint=key.fingerprint, leaked=leaked)
        measures.QUARANTINED.labels(key.project).inc()
        self._own[key.fingerprint] = _BASE
        self._suspects.add(key.fingerprint)
        if self._store is not None:
            try:
                self._take(await self._store.quarantine(key.fingerprint, _BASE, _LONGEST))
                self._version = self._store.keys_version
                self._own.clear()
                return
            except LimiterUnavailable:
                log.warning("the fleet could not be told of a refused key")
        self._keys.refuse(self._own)

    async def worked(self, key: Key) -> None:
        """The provider took the key; one that was refused before is in good standing again."""
        if key.fingerprint not in self._suspects:
            return
        self._suspects.discard(key.fingerprint)
        log.info("key works again", project=key.project, fingerprint=key.fingerprint)
        if self._store is not None:
            try:
                self._take(await self._store.pardon(key.fingerprint))
            except LimiterUnavailable:
                return

    def _take(self, refused: Mapping[str, float]) -> None:
        self._suspects.update(refused)
        self._keys.refuse(refused)
