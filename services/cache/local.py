"""Answers in this process's memory: bounded, the least recently used go first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class LocalStore:
    """The same promises as the store in Valkey, for one process. `max_bytes` bounds keys and values."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._values: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()

    async def get(self, key: bytes) -> bytes | None:
        found = self._values.get(key)
        if found is None:
            return None
        value, until = found
        if self._clock() >= until:
            self._drop(key)
            return None
        self._values.move_to_end(key)
        return value

    async def put(self, key: bytes, value: bytes, life_ms: int) -> None:
        self._drop(key)
        self._values[key] = (value, self._clock() + life_ms / 1000)
        self._bytes += len(key) + len(value)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._values)))

    def _drop(self, key: bytes) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._bytes -= len(key) + len(found[0])
