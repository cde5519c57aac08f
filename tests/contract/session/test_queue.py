"""What every queue promises: the fake, Valkey, PostgreSQL, and Valkey with PostgreSQL behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from devstack.valkey import Valkey
from services.common import valkey as clients
from services.common.errors import Unavailable
from services.session.fallback_queue import FallbackQueue
from services.session.line import Queue, Spot
from services.session.store.pool import Pool
from services.session.store.postgres_queue import PostgresQueue
from services.session.store.valkey_queue import ValkeyQueue
from tests.contract.session.fake_queue import FakeQueue
from tests.contract.session.stores import new_id

SIZE = 4


@pytest.fixture
def ttl() -> float:
    """Seconds that a place lives unseen: no test of anything else may see it end."""
    return 60.0


@pytest.fixture(params=["fake", "valkey", "postgres", "both", "valkey gone"])
async def queue(request: pytest.FixtureRequest, ttl: float) -> AsyncIterator[Queue]:
    kind: str = request.param
    async with AsyncExitStack() as stack:
        if kind == "fake":
            yield FakeQueue(max_queue=SIZE, ttl=ttl)
            return
        second: Queue | None = None
        if kind != "valkey":
            pool = Pool(request.getfixturevalue("module_database_url"), timeout=10)
            stack.push_async_callback(pool.close)
            second = PostgresQueue(pool, max_queue=SIZE, ttl=ttl)
        if kind == "postgres":
            assert second is not None
            yield second
            return
        server: Valkey = request.getfixturevalue("valkey")
        client = clients.connect("redis://127.0.0.1:1/0" if kind == "valkey gone" else server.url, timeout=5)
        stack.push_async_callback(client.aclose)
        first = ValkeyQueue(client, max_queue=SIZE, ttl=ttl)
        yield first if second is None else FallbackQueue(first, second)


@pytest.fixture
def conversation() -> str:
    return f"local-{new_id()}"


async def joined(queue: Queue, conversation: str, turn: str) -> Spot:
    spot = await queue.join(conversation, turn)
    assert spot is not None
    return spot


async def test_places_are_given_in_the_order_of_arrival(queue: Queue, conversation: str) -> None:
    turns = [new_id() for _ in range(3)]
    spots = [await joined(queue, conversation, turn) for turn in turns]
    assert [spot.position for spot in spots] == [1, 2, 3]
    assert spots[0].arrived < spots[1].arrived < spots[2].arrived
    standing = await queue.show(conversation, [(turns[2], spots[2].arrived)])
    assert (list(standing.order), standing.returned) == (turns, frozenset())


async def test_joining_again_keeps_the_place(queue: Queue, conversation: str) -> None:
    first, second = new_id(), new_id()
    spot = await joined(queue, conversation, first)
    await joined(queue, conversation, second)
    assert await joined(queue, conversation, first) == spot


async def test_arrivals_at_once_get_different_places(queue: Queue, conversation: str) -> None:
    spots = await asyncio.gather(*(joined(queue, conversation, new_id()) for _ in range(SIZE)))
    assert sorted(spot.position for spot in spots) == [1, 2, 3, 4]


async def test_full_queue_takes_nobody_but_those_in_it(queue: Queue, conversation: str) -> None:
    turns = [new_id() for _ in range(SIZE)]
    for turn in turns:
        await joined(queue, conversation, turn)
    assert await queue.join(conversation, new_id()) is None
    assert (await joined(queue, conversation, turns[1])).position == 2
    await queue.leave(conversation, turns[0])
    assert (await joined(queue, conversation, new_id())).position == SIZE


async def test_who_leaves_frees_the_place_at_once(queue: Queue, conversation: str) -> None:
    turns = [new_id() for _ in range(3)]
    spots = [await joined(queue, conversation, turn) for turn in turns]
    assert await queue.leave(conversation, turns[0]) == 2
    standing = await queue.show(conversation, [(turns[2], spots[2].arrived)])
    assert list(standing.order) == turns[1:]


async def test_leaving_a_place_that_one_has_not_is_no_error(queue: Queue, conversation: str) -> None:
    assert await queue.leave(conversation, new_id()) == 0


async def test_conversations_have_queues_of_their_own(queue: Queue, conversation: str) -> None:
    await joined(queue, conversation, new_id())
    assert (await joined(queue, f"local-{new_id()}", new_id())).position == 1


@pytest.mark.parametrize("ttl", [0.6])
async def test_who_is_not_shown_loses_the_place(queue: Queue, conversation: str, ttl: float) -> None:
    dead, living = new_id(), new_id()
    await joined(queue, conversation, dead)
    arrived = (await joined(queue, conversation, living)).arrived
    for _ in range(3):
        await asyncio.sleep(ttl / 2)
        standing = await queue.show(conversation, [(living, arrived)])
    assert list(standing.order) == [living]


async def test_lost_places_are_taken_again_in_the_old_order(queue: Queue, conversation: str) -> None:
    early, late = (new_id(), 1_000_000), (new_id(), 2_000_000)
    standing = await queue.show(conversation, [late])
    assert (list(standing.order), standing.returned) == ([late[0]], frozenset([late[0]]))
    standing = await queue.show(conversation, [early])
    assert (list(standing.order), standing.returned) == ([early[0], late[0]], frozenset([early[0]]))


async def test_waking_an_empty_queue_is_no_error(queue: Queue, conversation: str) -> None:
    await queue.wake(conversation, new_id())


async def test_wake_reaches_the_process_of_the_first_waiter_only(valkey: Valkey, conversation: str) -> None:
    async with AsyncExitStack() as stack:
        queues, heard = [], []
        for number in range(2):
            client = clients.connect(valkey.url, timeout=5)
            stack.push_async_callback(client.aclose)
            queues.append(ValkeyQueue(client, max_queue=SIZE))
            heard.append(asyncio.Queue[tuple[str, str]]())
            await stack.enter_async_context(
                queues[number].listening(lambda *woken, to=heard[number]: to.put_nowait(woken))
            )
        done, turn = new_id(), new_id()
        await joined(queues[0], conversation, done)
        await joined(queues[1], conversation, turn)
        await joined(queues[0], conversation, new_id())
        while heard[1].empty():  # until the subscription stands
            await joined(queues[1], conversation, turn)
            await queues[0].wake(conversation, done)
            await asyncio.sleep(0.02)
        assert await heard[1].get() == (conversation, turn)
        assert heard[0].empty()


async def test_valkey_that_is_gone_is_unavailable() -> None:
    client = clients.connect("redis://127.0.0.1:1/0", timeout=1)
    queue = ValkeyQueue(client, max_queue=SIZE)
    with pytest.raises(Unavailable):
        await queue.join(f"local-{new_id()}", new_id())
    await client.aclose()


async def test_queue_leaves_nothing_behind(valkey: Valkey, conversation: str) -> None:
    client = clients.connect(valkey.url, timeout=5)
    queue = ValkeyQueue(client, max_queue=SIZE)
    turn = new_id()
    await joined(queue, conversation, turn)
    await queue.leave(conversation, turn)
    assert await client.keys("*") == []
    await client.aclose()


async def test_who_waits_is_known_until_it_leaves(queue: Queue, conversation: str) -> None:
    turn = new_id()
    assert not await queue.holds(conversation, turn)
    await joined(queue, conversation, turn)
    assert await queue.holds(conversation, turn)
    assert not await queue.holds(conversation, new_id())
    assert not await queue.holds(f"local-{new_id()}", turn)
    await queue.leave(conversation, turn)
    assert not await queue.holds(conversation, turn)
