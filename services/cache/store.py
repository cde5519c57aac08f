"""Answers in Valkey. The only module that knows its driver and the names of its keys."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from services.cache.freshness import Freshness
from services.cache.marks import KEPT_SECONDS
from services.cache.popular import KEPT_DAYS, MAX_KEPT
from services.cache.scripts import Scripts
from services.cache.storage import Found, Holding, Reading, Renewal, Renewed, State, StoreUnavailable, Value, Wish
from services.cache.valkey.client import Client
from services.cache.valkey.wire import Refused, Unavailable

_MARKS = b"fc:{marks}"
_MAX_MARKS = 50_000
_POPULAR = b"fc:{popular}"


class ValkeyStore:
    """`storage.AnswerStore` over one Valkey or a cluster."""

    def __init__(self, client: Client, policy: Freshness) -> None:
        self._client = client
        self._scripts = Scripts(policy)

    @property
    def usable(self) -> bool:
        """False while calls would fail at once."""
        return self._client.usable

    async def lookup(self, key: bytes, wish: Wish) -> Found:
        wanted = (1 if wish.refresh else 0) + (2 if wish.fill else 0)
        oldest = -1 if wish.max_age is None else wish.max_age
        state, value, age, life, cost, granted, follows = await _done(
            self._client.script(
                self._scripts.lookup, (question_name(key),), wish.holder, wanted, oldest, f"{wish.lot:.6f}", wish.ahead
            )
        )
        return Found(State(state), value, age, life, cost, granted == 1, follows)

    async def put(self, key: bytes, holder: bytes, value: Value) -> None:
        await _done(
            self._client.script(
                self._scripts.put,
                (question_name(key),),
                holder,
                value.data,
                value.cost,
                value.fingerprint,
                value.confirmations,
            )
        )

    async def renew(self, renewals: Sequence[Renewal]) -> list[Renewed]:
        replies = await _done(
            asyncio.gather(
                *(
                    self._client.script(
                        self._scripts.renew,
                        (question_name(one.key), _events(one.key, one.holder)),
                        one.holder,
                        one.first,
                        *one.events,
                    )
                    for one in renewals
                )
            )
        )
        return [Renewed(Holding(holding), have) for holding, have in replies]

    async def read(self, key: bytes, holder: bytes, first: int) -> Reading:
        held, value, events = await _done(
            self._client.script(self._scripts.read, (question_name(key), _events(key, holder)), holder, first)
        )
        return Reading(held == 1, events, value)

    async def release(self, key: bytes, holder: bytes, last: bytes, pause: int) -> None:
        keys = (question_name(key), _events(key, holder))
        await _done(self._client.script(self._scripts.release, keys, holder, last, pause))

    async def confirm(self, key: bytes) -> bool:
        return bool(await _done(self._client.script(self._scripts.confirm, (question_name(key),))))

    async def evict(self, key: bytes) -> bool:
        return bool(await _done(self._client.script(self._scripts.evict, (question_name(key),))))

    async def marks(self, known: int) -> tuple[int, Sequence[tuple[bytes, int]]]:
        """As `marks.MarkStore`."""
        reply = await _done(self._client.script(self._scripts.marks, (_MARKS,), known))
        versions = [int(float(version)) for version in reply[2::2]]
        return int(float(reply[0])), list(zip(reply[1::2], versions, strict=True))

    async def mark(self, names: Sequence[bytes]) -> int:
        """As `marks.MarkStore`."""
        oldest = KEPT_SECONDS * 1_000_000
        return int(await _done(self._client.script(self._scripts.mark, (_MARKS,), _MAX_MARKS, oldest, *names)))

    async def add_popular(self, tenant: bytes, counts: Mapping[bytes, tuple[int, bytes]]) -> None:
        """As `popular.PopularStore`."""
        flat = [part for item, (count, text) in counts.items() for part in (item, count, text)]
        keys = (_POPULAR, _POPULAR + tenant, _POPULAR + tenant + b":texts")
        await _done(self._client.script(self._scripts.add_popular, keys, tenant, MAX_KEPT, KEPT_DAYS * 86_400, *flat))

    async def popular(self, tenants: Sequence[bytes], limit: int) -> list[tuple[int, bytes]]:
        """As `popular.PopularStore`."""
        if not tenants:
            tenants = await _done(self._client.call(_POPULAR, b"ZRANGE", _POPULAR, 0, -1))
        found: list[tuple[int, bytes]] = []
        for tenant in tenants:
            keys = (_POPULAR, _POPULAR + tenant, _POPULAR + tenant + b":texts")
            reply = await _done(self._client.script(self._scripts.popular, keys, limit))
            found += [(int(float(count)), text) for count, text in zip(reply[::2], reply[1::2], strict=True)]
        return found


async def _done(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except (Unavailable, Refused) as err:
        raise StoreUnavailable(str(err)) from err


def question_name(key: bytes) -> bytes:
    """The hash of a question. The braces keep all that belongs to one question in one slot of a cluster."""
    return b"fc:{" + urlsafe_b64encode(key)[:-1] + b"}"


def _events(key: bytes, holder: bytes) -> bytes:
    return question_name(key) + urlsafe_b64encode(holder)
