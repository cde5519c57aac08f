"""PostgreSQL gone, frozen or used up: said within a second, never a false success, back by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from devstack.postgres import Postgres
from devstack.process import wait_until_ready
from devstack.valkey import Valkey
from services.common.errors import Unavailable
from services.session.store.pool import Pool
from tests.integration.session.turns.fleet import Caller, fleet, new_id, settings

# The service's own 0.9 s, and what a busy machine may add before somebody is heard.
SOON = 1.0
SLACK = 2.0


@pytest.fixture
async def caller(tmp_path: Path, database_url: str, valkey: Valkey) -> AsyncIterator[Caller]:
    """Somebody who calls a session process with its usual time-outs and two connections."""
    chosen = settings(
        tmp_path, database_url, valkey.url, database_timeout_seconds=0.9, database_pool_size=2, index_seconds=3600.0
    )
    async with fleet(chosen) as found:
        yield found.caller


async def is_unavailable(call: Awaitable[Any]) -> float:
    """The call fails as STORE_UNAVAILABLE with a time to come again; gives the seconds it took."""
    started = time.perf_counter()
    with pytest.raises(Unavailable) as err:
        await call
    assert err.value.reason_name == "STORE_UNAVAILABLE"
    assert err.value.retry_after
    return time.perf_counter() - started


async def is_served_or_unavailable(call: Awaitable[Any]) -> float:
    """As `is_unavailable`, but it may also succeed."""
    started = time.perf_counter()
    refused: list[Unavailable] = []
    try:
        await call
    except Unavailable as err:
        refused.append(err)
    assert all(err.reason_name == "STORE_UNAVAILABLE" and err.retry_after for err in refused)
    return time.perf_counter() - started


def crash(postgres: Postgres) -> None:
    """Kills the server. Test servers do without fsync; what they have so far is to be on the disk."""
    postgres.execute("CHECKPOINT")
    postgres.process.kill()


async def recovers(caller: Caller, conversation: str) -> None:
    """Turns work again, without anything being restarted."""
    async with asyncio.timeout(30):
        while True:
            try:
                await caller.turn(conversation)
                return
            except Unavailable:
                await asyncio.sleep(0.1)


async def test_killed_postgresql(caller: Caller, postgres: Postgres) -> None:
    conversation = await caller.conversation()
    begun = await caller.begun(conversation)
    crash(postgres)
    for call in (
        caller.commit(conversation, begun),
        caller.begin(conversation),
        caller.get(conversation),
        caller.conversation(),
        caller.renew(),
        caller.abandon(conversation, begun.turn_id),
    ):
        assert await is_unavailable(call) < SOON + SLACK
    wait_until_ready([postgres.start()], timeout=60)
    async with asyncio.timeout(30):
        while True:  # the same commit as before, until it is heard
            try:
                turn = await caller.commit(conversation, begun)
                break
            except Unavailable:
                await asyncio.sleep(0.1)
    assert turn.seq == 1
    await recovers(caller, conversation)


async def test_frozen_postgresql(caller: Caller, postgres: Postgres) -> None:
    """It accepts connections and never answers."""
    conversation = await caller.conversation()
    await caller.turn(conversation)
    server = psutil.Process(postgres.process.pid)
    family = [server, *server.children()]
    for process in family:
        process.suspend()
    try:
        waits = [await is_unavailable(caller.get(conversation)) for _ in range(4)]
    finally:
        for process in family:
            process.resume()
    assert max(waits) < SOON + SLACK
    await recovers(caller, conversation)


async def test_used_up_pool(caller: Caller, database_url: str) -> None:
    """Connections wait for a row that somebody keeps; others may get one in between, or are told soon."""
    conversation = await caller.conversation()
    other = await caller.conversation()
    keeper = await asyncpg.connect(database_url)
    try:
        async with keeper.transaction():
            await keeper.execute(
                "SELECT FROM conversations WHERE id = $1 FOR UPDATE", conversation.removeprefix("local-")
            )
            waits = await asyncio.gather(
                *(is_unavailable(caller.begin(conversation)) for _ in range(2)),
                *(is_served_or_unavailable(caller.get(other)) for _ in range(3)),
            )
            assert max(waits) < SOON + SLACK
    finally:
        await keeper.close()
    await recovers(caller, other)


async def test_cut_connections_are_replaced(caller: Caller, postgres: Postgres) -> None:
    conversation = await caller.conversation()
    for _ in range(3):
        await caller.turn(conversation)
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'focus'")
        await recovers(caller, conversation)
    turns = (await caller.get(conversation)).turns
    assert [turn.seq for turn in turns] == list(range(1, len(turns) + 1))


async def test_waiter_outlives_an_outage_of_postgresql_or_is_told(caller: Caller, postgres: Postgres) -> None:
    conversation = await caller.conversation()
    await caller.begun(conversation)
    ticket = (await caller.begin(conversation)).queued.ticket
    waiting = asyncio.create_task(caller.wait(conversation, ticket))
    await asyncio.sleep(0.1)
    crash(postgres)
    assert await is_unavailable(waiting) < 10
    wait_until_ready([postgres.start()], timeout=60)
    # The crash has forgotten all holders: nobody has to wait for one that is gone.
    await recovers(caller, conversation)


async def test_service_starts_without_its_stores(tmp_path: Path) -> None:
    nowhere = settings(
        tmp_path, "postgresql://focus:x@127.0.0.1:1/focus", "redis://127.0.0.1:1/0", database_timeout_seconds=0.9
    )
    async with AsyncExitStack() as stack:
        with pytest.raises(Unavailable):
            await stack.enter_async_context(fleet(nowhere))


async def test_late_answer_never_reaches_another_call(database_url: str) -> None:
    """A connection whose call was cancelled is not used again."""
    pool = Pool(database_url, size=1, timeout=10)
    for number in range(5):
        slow = asyncio.create_task(pool.value("SELECT pg_sleep(0.2), $1::int", number))
        await asyncio.sleep(0.05)
        slow.cancel()
        assert await pool.value("SELECT $1::text", f"mine {number}") == f"mine {number}"
    await pool.close()


async def test_pool_hands_its_connections_on_in_order_and_loses_none(database_url: str) -> None:
    """Whoever gives up while waiting for a connection takes none away."""
    pool = Pool(database_url, size=2, timeout=10)
    calls = [asyncio.create_task(pool.value("SELECT pg_sleep(0.01), $1::text", new_id())) for _ in range(40)]
    await asyncio.sleep(0.05)
    for call in calls[::3]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    async with pool.connection() as first, pool.connection() as second:
        assert first is not second
    with pytest.raises(Unavailable):
        async with pool.connection(), pool.connection(), pool.connection(0.1):
            raise AssertionError("there are only two")
    assert await pool.value("SELECT 1") == 1
    await pool.close()
