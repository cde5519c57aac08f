"""Calls in the stream, as the settle script writes them, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from services.common import valkey as clients
from services.common.errors import Unavailable
from services.session.store.pool import Pool
from services.session.store.usage_events import STREAM
from tests.contract.session.stores import new_id

COST = 7


async def write(url: str, number: int, tenant: str, *, at_ms: int = 1_772_366_400_000) -> None:
    """`number` calls of one tenant."""
    client = clients.connect(url, timeout=10)
    async with client.pipeline(transaction=False) as many:
        for _ in range(number):
            many.xadd(STREAM, fields(tenant, at_ms))
        await many.execute()
    await client.aclose()


def fields(tenant: str, at_ms: int) -> dict[Any, Any]:
    return {
        "call_id": new_id(),
        "outcome": "done",
        "at_ms": str(at_ms),
        "tenant_id": tenant,
        "person_id": new_id(),
        "tier": "junior",
        "priority": "interactive",
        "project": "p",
        "model": "m",
        "location": "global",
        "prompt_tokens": "31",
        "cached_tokens": "0",
        "output_tokens": "9",
        "thought_tokens": "0",
        "cost_microusd": str(COST),
    }


async def left(url: str) -> int:
    """How many are not booked yet."""
    client = clients.connect(url, timeout=10)
    try:
        return int(await client.xlen(STREAM))
    finally:
        await client.aclose()


async def booked(pool: Pool, tenant: str) -> tuple[int, int]:
    """Calls and micro-dollars."""
    row = await pool.row(
        "SELECT count(*), coalesce(sum(cost_microusd), 0)::bigint FROM usage_events WHERE tenant_id = $1", tenant
    )
    assert row is not None
    return row[0], row[1]


async def until(pool: Pool, tenant: str, enough: Callable[[int], bool], seconds: float = 60) -> int:
    """Waits until so many calls are booked; says how many."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(Unavailable):
                calls, _ = await booked(pool, tenant)
                if enough(calls):
                    return calls
            await asyncio.sleep(0.005)
