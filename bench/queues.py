"""Forty who want the same thing at once: how long it takes them all, and who goes before his turn."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.lock import Lock

from bench.session import House, calling

WAITERS = 40
HOLD_SECONDS = 0.005
# Between arrivals, so that there is an order to keep; and after the last, so that all of them wait.
_APART_SECONDS = 0.005
_SETTLE_SECONDS = 0.5
_LOCK = 7_340_231
_TABLE = """
CREATE TABLE IF NOT EXISTS bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
GRANT ALL ON bench_rows TO focus
"""


@dataclass(frozen=True, slots=True)
class Queue:
    """One run: seconds from the first release to the last, and overtakes."""

    seconds: float
    overtakes: int


def overtakes(served: Sequence[int]) -> int:
    """How many went before somebody who had come earlier; `served` holds arrivals in the order of service."""
    return sum(any(earlier < one for earlier in served[place + 1 :]) for place, one in enumerate(served))


async def turns(house: House, processes: int) -> Queue:
    """Turns of one conversation, the waiters spread over session processes."""
    [conversation] = await house.conversations(1)
    async with calling(house.sessions[:processes], WAITERS + 1, house.principal) as (holder, *others):
        first = str(uuid.uuid4())
        begun = (await holder.begin(conversation, first)).begun
        served: list[int] = []

        async def wait(arrival: int, ticket: str, turn: str) -> None:
            reached = await others[arrival].reach(conversation, ticket)
            served.append(arrival)
            await asyncio.sleep(HOLD_SECONDS)
            await others[arrival].commit(conversation, turn, reached.fence)

        waiting = []
        for arrival, caller in enumerate(others):
            turn = str(uuid.uuid4())
            ticket = (await caller.begin(conversation, turn)).queued.ticket
            waiting.append(asyncio.create_task(wait(arrival, ticket, turn)))
            await asyncio.sleep(_APART_SECONDS)
        await asyncio.sleep(_SETTLE_SECONDS)
        started = time.perf_counter()
        await holder.commit(conversation, first, begun.fence)
        await asyncio.gather(*waiting)
        return Queue(time.perf_counter() - started, overtakes(served))


async def redis_lock(house: House, sleep: float) -> Queue:
    """redis-py's Lock, each waiter with a connection of its own; `sleep` is its pause between two tries."""
    client = Redis.from_url(house.valkey.url, max_connections=WAITERS + 1)

    @asynccontextmanager
    async def held() -> AsyncIterator[None]:
        async with Lock(client, "bench", timeout=60, sleep=sleep):
            yield

    try:
        return await _with_lock([held] * (WAITERS + 1))
    finally:
        await client.aclose()


async def advisory_lock(house: House, *, writing: bool) -> Queue:
    """`pg_advisory_xact_lock`, each waiter with a connection of its own, held while it waits and works.

    `writing`: each also leaves a row, which its commit brings to the disk, as a turn does.
    """
    async with AsyncExitStack() as stack:
        if writing:
            house.postgres.execute(_TABLE, database="focus")

        def holding(connection: asyncpg.Connection[asyncpg.Record]) -> Callable[[], AbstractAsyncContextManager[None]]:
            @asynccontextmanager
            async def held() -> AsyncIterator[None]:
                async with connection.transaction():
                    await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
                    yield
                    if writing:
                        await connection.execute("INSERT INTO bench_rows DEFAULT VALUES")

            return held

        holds = []
        for _ in range(WAITERS + 1):
            connection = await asyncpg.connect(house.postgres.url())
            stack.push_async_callback(connection.close)
            holds.append(holding(connection))
        return await _with_lock(holds)


async def _with_lock(holds: Sequence[Callable[[], AbstractAsyncContextManager[None]]]) -> Queue:
    served: list[int] = []
    release, held = asyncio.Event(), asyncio.Event()
    started = 0.0

    async def first() -> None:
        nonlocal started
        async with holds[-1]():
            held.set()
            await release.wait()
            started = time.perf_counter()

    async def wait(arrival: int) -> None:
        async with holds[arrival]():
            served.append(arrival)
            await asyncio.sleep(HOLD_SECONDS)

    working: list[Awaitable[None]] = [asyncio.create_task(first())]
    await held.wait()
    for arrival in range(WAITERS):
        working.append(asyncio.create_task(wait(arrival)))
        await asyncio.sleep(_APART_SECONDS)
    await asyncio.sleep(_SETTLE_SECONDS)
    release.set()
    await asyncio.gather(*working)
    return Queue(time.perf_counter() - started, overtakes(served))
