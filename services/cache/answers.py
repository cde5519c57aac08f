"""Which answers are kept, and what a look-up finds.

A cache never makes a question fail: whatever goes wrong with the store is a miss.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from focus.cache.v1.entry_pb2 import Origin, StoredEntry
from focus.chat.v1.chat_pb2 import Answer, FinishReason
from services.cache import stats
from services.cache.entries import Coder, Unreadable
from services.cache.keys import Asked, KeyMaker
from services.common import errors


class StoreUnavailable(Exception):
    """The store did not do what it was asked in time, or cannot."""


class AnswerStore(Protocol):
    """Values under keys, each with a life in milliseconds. Raises StoreUnavailable."""

    async def get(self, key: bytes) -> bytes | None: ...

    async def put(self, key: bytes, value: bytes, life_ms: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be kept, and for how long."""

    min_confidence: float
    ttl_seconds: int
    max_question_bytes: int


class Answers:
    """Looks answers up and keeps them."""

    def __init__(
        self, store: AnswerStore, keys: KeyMaker, coder: Coder, rules: Rules, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._keys = keys
        self._coder = coder
        self._rules = rules
        self._clock = clock

    async def lookup(self, asked: Asked) -> StoredEntry | None:
        """The stored answer, or None for a miss of whatever cause."""
        self._check(asked)
        key = self._keys.key(asked)
        try:
            value = await self._store.get(key)
        except StoreUnavailable:
            stats.LOOKUPS.labels("unavailable").inc()
            return None
        if value is None:
            stats.LOOKUPS.labels("miss").inc()
            return None
        try:
            entry = self._coder.decode(key, value)
        except Unreadable as err:
            stats.UNREADABLE.labels(err.why).inc()
            stats.LOOKUPS.labels("miss").inc()
            return None
        stats.LOOKUPS.labels("hit").inc()
        stats.SAVED.inc(entry.answer.cost_microusd)
        return entry

    async def keep(self, asked: Asked, answer: Answer) -> bool:
        """Keeps a complete answer; False when the rules forbid it or the store cannot."""
        self._check(asked)
        why = refused(answer, self._rules.min_confidence)
        if why:
            stats.NOT_KEPT.labels(why).inc()
            return False
        key = self._keys.key(asked)
        entry = StoredEntry(answer=answer, stored_at_ms=int(self._clock() * 1000), origin=Origin.ORIGIN_TRAFFIC)
        value = self._coder.encode(key, entry)
        if value is None:
            stats.NOT_KEPT.labels("size").inc()
            return False
        try:
            await self._store.put(key, value, self._rules.ttl_seconds * 1000)
        except StoreUnavailable:
            stats.NOT_KEPT.labels("unavailable").inc()
            return False
        stats.KEPT.inc()
        return True

    def _check(self, asked: Asked) -> None:
        if not asked.tenant:
            raise errors.InvalidRequest("principal.tenant_id is missing; every question belongs to a tenant.")
        if not asked.text.strip():
            raise errors.InvalidRequest("question.text is empty; send the question.")
        if len(asked.text.encode()) + len(asked.system_instruction.encode()) > self._rules.max_question_bytes:
            raise errors.InvalidRequest(
                f"question.text and question.system_instruction together are longer than "
                f"{self._rules.max_question_bytes} bytes; shorten them."
            )


def refused(answer: Answer, min_confidence: float) -> str:
    """Why an answer may not be kept, in one word; empty: it may."""
    if answer.finish_reason != FinishReason.FINISH_REASON_STOP:
        return "incomplete"
    if not answer.text.strip():
        return "empty"
    # Written so that a confidence which is not a number is refused as well.
    if not answer.confidence >= min_confidence:
        return "confidence"
    return ""
