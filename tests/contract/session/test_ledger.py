"""What stream and book of the ledger promise: the fakes, Valkey and PostgreSQL against one suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import pytest
from redis.asyncio import Redis

from devstack.valkey import Valkey
from services.common import valkey as clients
from services.common.errors import Unavailable
from services.session.ledger import LOST, Book, Call, Events, Used
from services.session.store.pool import Pool
from services.session.store.usage import PostgresBook
from services.session.store.usage_events import STREAM, ValkeyEvents
from tests.contract.session.fake_ledger import FakeBook, FakeEvents
from tests.contract.session.stores import new_id

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Stream(Events, Protocol):
    async def append(self, fields: dict[str, str]) -> None: ...


class _Written(ValkeyEvents):
    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self._writer = client

    async def append(self, fields: dict[str, str]) -> None:
        words: dict[Any, Any] = {**fields}
        await self._writer.xadd(STREAM, words)


@dataclass
class Both:
    events: Stream
    book: Book


@pytest.fixture(params=["fake", "real"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    if request.param == "fake":
        yield Both(FakeEvents(), FakeBook())
        return
    server: Valkey = request.getfixturevalue("valkey")
    client = clients.connect(server.url, timeout=5)
    pool = Pool(request.getfixturevalue("database_url"), timeout=10)
    yield Both(_Written(client), PostgresBook(pool))
    await pool.close()
    await client.aclose()


def a_call(tenant: str, **other: object) -> Call:
    made = Call(new_id(), tenant, new_id(), "done", "junior", "interactive", "p", "m", "global", 31, 8, 9, 2, 7, NOON)
    return replace(made, **other)  # type: ignore[arg-type]


async def used(book: Book, tenant: str, days: int = 1) -> list[Used]:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    return list(await book.used(tenant, begin, begin + timedelta(days=days)))


async def test_events_stay_until_they_are_removed(both: Both) -> None:
    for number in range(3):
        await both.events.append({"call_id": str(number), "model": "modèle"})
    first = await both.events.oldest(2)
    assert [fields for _, fields in first] == [{"call_id": str(number), "model": "modèle"} for number in range(2)]
    assert await both.events.oldest(2) == first
    for _ in range(2):
        await both.events.remove([name for name, _ in first])
    (last,) = await both.events.oldest(2)
    assert last[1]["call_id"] == "2"
    await both.events.set_aside(last)
    assert await both.events.oldest(2) == []


async def test_a_call_is_booked_once(both: Both) -> None:
    tenant = new_id()
    calls = [a_call(tenant), a_call(tenant, cost_microusd=5)]
    for _ in range(2):
        assert await both.book.add(calls)
    assert await used(both.book, tenant) == [Used(date(2026, 3, 1), "m", "junior", 2, 0, 62, 16, 18, 4, 12)]


async def test_an_estimate_gives_way_to_what_was_used_and_nothing_else_does(both: Both) -> None:
    tenant = new_id()
    lost = a_call(tenant, outcome=LOST, cost_microusd=50)
    await both.book.add([lost])
    assert [(one.estimated_calls, one.cost_microusd) for one in await used(both.book, tenant)] == [(1, 50)]
    await both.book.add([replace(lost, outcome="done", cost_microusd=3)])
    for other in (replace(lost, cost_microusd=51), replace(lost, outcome="failed", cost_microusd=4)):
        await both.book.add([other])
    assert [(one.estimated_calls, one.cost_microusd) for one in await used(both.book, tenant)] == [(0, 3)]


async def test_usage_is_told_by_day_model_and_tier_of_one_tenant(both: Both) -> None:
    tenant, midnight = new_id(), datetime(2026, 3, 2, tzinfo=UTC)
    await both.book.add(
        [
            a_call(tenant, at=midnight - timedelta(milliseconds=1)),
            a_call(tenant, at=midnight),
            a_call(tenant, at=midnight, tier="senior", model="s"),
            a_call(tenant, at=midnight, model="s"),
            a_call(tenant, at=midnight + timedelta(days=1)),
            a_call(new_id(), at=midnight),
        ]
    )
    assert [(one.day.day, one.model, one.tier, one.calls) for one in await used(both.book, tenant, 2)] == [
        (1, "m", "junior", 1),
        (2, "m", "junior", 1),
        (2, "s", "junior", 1),
        (2, "s", "senior", 1),
    ]


async def test_without_valkey_the_stream_says_so() -> None:
    client = clients.connect("redis://127.0.0.1:1/0", timeout=1)
    with pytest.raises(Unavailable):
        await ValkeyEvents(client).oldest(1)
    await client.aclose()
