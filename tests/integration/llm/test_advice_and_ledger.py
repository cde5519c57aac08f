"""Advice that is honest, and calls that nobody forgets: over a real Valkey."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator

import pytest_asyncio

from devstack.valkey import Valkey
from services.llm import catalogue_file
from services.llm.failover import FleetLimiter
from services.llm.providers.port import Endpoint, Usage
from services.llm.quota import ComeLater, Grant, NoShare, Settlement, Windows, Wish
from services.llm.store.connection import call, connect
from services.llm.store.limiter import LEDGER, Membership, Replay, ValkeyLimiter
from services.llm.waiting import Waiter, WaitingRoom
from tests.integration.llm.load import catalogue

JUNIOR = Endpoint("p", "gemini-3.5-flash-lite")


def wish(tenant: str = "t", lost_after: float = 60.0) -> Wish:
    return Wish(uuid.uuid4().hex, "junior", tenant, 0, 20, 7, (JUNIOR,), lost_after, "person")


def limiter(valkey: Valkey, limits: str, windows: Windows, instance: str = "") -> ValkeyLimiter:
    found = catalogue_file.parse(catalogue(limits).encode(), "test")
    member = uuid.uuid4().hex
    membership = Membership(member, instance or member, silent=0.5, roll_call=0.3)
    return ValkeyLimiter(
        valkey.url, windows, membership, lambda: found, Replay(deque(), {}), lambda: [JUNIOR], timeout=2
    )


@pytest_asyncio.fixture
async def store(valkey: Valkey) -> AsyncIterator[ValkeyLimiter]:
    made = limiter(valkey, "{rpm: 40}", Windows(2, 0.1))
    await made.beat()
    yield made
    made.close()


async def test_of_clients_that_come_when_they_are_told_nearly_all_get_in(store: ValkeyLimiter) -> None:
    """At three times the capacity; everybody has a tenant of its own and comes again once."""
    room = WaitingRoom(store)
    running = asyncio.create_task(room.run())
    loop = asyncio.get_running_loop()
    first: Counter[str] = Counter()
    again: Counter[str] = Counter()

    async def client(number: int) -> None:
        told = await enter(first, number)
        if told is not None:
            await asyncio.sleep(told.seconds)
            await enter(again, number)

    async def enter(counts: Counter[str], number: int) -> ComeLater | None:
        found = await room.enter(wish(f"tenant-{number}"), loop.time() + 2)
        if isinstance(found, ComeLater):
            counts["told"] += 1
            return found
        if isinstance(found, Waiter):
            await asyncio.wait([found.granted])
            counts["late" if found.granted.exception() is not None else "in"] += 1
        else:
            counts["in"] += 1
        return None

    clients = []
    for number in range(240):
        clients.append(asyncio.create_task(client(number)))
        await asyncio.sleep(1 / 60)
    await asyncio.gather(*clients)
    running.cancel()
    assert first["told"] > 60
    assert again["in"] >= 0.95 * again.total(), f"first {first}, again {again}"


async def events(valkey: Valkey) -> list[dict[str, str]]:
    connection = await connect(valkey.url, 5)
    found = await call(connection, ("XRANGE", LEDGER, "-", "+"), 5)
    connection.close()
    return [{fields[at].decode(): fields[at + 1].decode() for at in range(0, len(fields), 2)} for _, fields in found]


async def test_a_settled_call_is_one_event_of_the_ledger(store: ValkeyLimiter, valkey: Valkey) -> None:
    one = wish("tenant")
    assert isinstance(await store.acquire(one, 5), Grant)
    await store.settle([Settlement(one, JUNIOR, "done", Usage(30, 10, 5, 2), cost=99)])
    (event,) = await events(valkey)
    expected = {
        "call_id": one.call_id,
        "outcome": "done",
        "tenant_id": "tenant",
        "person_id": "person",
        "tier": "junior",
        "priority": "interactive",
        "project": "p",
        "model": "gemini-3.5-flash-lite",
        "location": "global",
        "prompt_tokens": "30",
        "cached_tokens": "10",
        "output_tokens": "5",
        "thought_tokens": "2",
        "cost_microusd": "99",
    }
    assert expected.items() <= event.items()


async def test_a_call_that_nobody_settles_is_booked_as_it_was_estimated(store: ValkeyLimiter, valkey: Valkey) -> None:
    """Its process died; another one's beat finds it."""
    one = wish("tenant", lost_after=0.2)
    assert isinstance(await store.acquire(one, 5), Grant)
    for _ in range(40):
        await store.beat()
        if await events(valkey):
            break
        await asyncio.sleep(0.05)
    (event,) = await events(valkey)
    expected = {"call_id": one.call_id, "outcome": "lost", "prompt_tokens": "20", "cost_microusd": "7"}
    assert expected.items() <= event.items()


async def test_a_silent_members_share_is_debited_until_it_is_replaced(store: ValkeyLimiter, valkey: Valkey) -> None:
    other = limiter(valkey, "{rpm: 40}", Windows(2, 0.1), instance="pod-1")
    for member in (store, other, store, other):
        await member.beat()
    assert store.share + other.share <= 1
    other.close()
    for _ in range(60):
        await store.beat()
        if store.debit:
            break
        await asyncio.sleep(0.05)
    assert store.debit > 0.3
    replacement = limiter(valkey, "{rpm: 40}", Windows(2, 0.1), instance="pod-1")
    await replacement.beat()
    await store.beat()
    assert store.debit == 0
    replacement.close()


async def test_a_store_that_lost_everything_is_told_before_it_grants(store: ValkeyLimiter, valkey: Valkey) -> None:
    """What was granted in the last window counts, though the store was emptied."""
    granted = 0
    while isinstance(await store.acquire(wish(), 0.01), Grant):
        granted += 1
    valkey.wipe()
    await store.beat()
    shown = (await store.show([JUNIOR]))["pools"]["p/gemini-3.5-flash-lite/global"]
    assert shown["calls"] == granted > 0


async def test_without_a_store_from_the_start_there_is_no_share(valkey: Valkey) -> None:
    found = catalogue_file.parse(catalogue("{rpm: 40}").encode(), "test")
    windows, membership, replay = Windows(2, 0.1), Membership("m", "i"), Replay(deque(), {})
    nowhere = ValkeyLimiter("redis://127.0.0.1:1/0", windows, membership, lambda: found, replay, lambda: [JUNIOR])
    fleet = FleetLimiter(nowhere, windows, membership, lambda: found, replay)
    assert isinstance(await fleet.acquire(wish(), 5), NoShare)


async def test_a_queue_of_thousands_gives_places_and_forgets_who_left(store: ValkeyLimiter) -> None:
    waiting = [wish(f"tenant-{number % 100}") for number in range(2000)]
    places = [await store.acquire(one, 36_000) for one in waiting]
    queued = [one for one, place in zip(waiting, places, strict=True) if not isinstance(place, Grant)]
    shown = await store.show([JUNIOR])
    assert shown["queues"]["junior"][0] == len(queued)
    await store.leave("junior", queued)
    assert (await store.show([JUNIOR]))["queues"]["junior"] == [0, 0, 0]
