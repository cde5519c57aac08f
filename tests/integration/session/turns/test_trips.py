"""What a turn costs in round trips, and that it works behind a transaction pooler."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path

import asyncpg
import pytest

from devstack.postgres import Postgres
from devstack.valkey import Valkey
from services.session.store.pool import Pool, Prepared
from tests.integration.session.turns.fleet import fleet, settings
from tests.integration.session.turns.pooler import pooling

# Nothing runs by itself that would be counted too.
QUIET = {"database_pool_size": 1, "index_seconds": 3600.0, "sweep_seconds": 3600.0}


def commands(valkey: Valkey) -> int:
    """How many commands Valkey has served, these look-ups included."""
    stats = valkey.command("INFO", "stats").decode()
    return int(next(line for line in stats.splitlines() if line.startswith("total_commands_processed")).split(":")[1])


async def test_uncontended_turn_is_two_trips_and_no_valkey(
    tmp_path: Path, postgres: Postgres, database_url: str, valkey: Valkey
) -> None:
    async with (
        pooling(postgres, database_url, by_transaction=False) as pooler,
        fleet(settings(tmp_path, pooler.url, valkey.url, **QUIET)) as found,
    ):
        caller = found.caller
        caller.renew = _never  # type: ignore[method-assign]
        conversation = await caller.conversation()
        for _ in range(3):  # statements are prepared once per connection
            await caller.turn(conversation)
        trips, served = pooler.trips, commands(valkey)
        for _ in range(5):
            await caller.turn(conversation)
        assert (pooler.trips - trips) / 5 == 2
        assert commands(valkey) - served == 1


async def _never() -> None:
    """Heartbeats are not counted."""


async def test_turns_behind_a_transaction_pooler(
    tmp_path: Path, postgres: Postgres, database_url: str, valkey: Valkey
) -> None:
    """Every transaction gets another server connection."""
    async with (
        pooling(postgres, database_url, by_transaction=True) as pooler,
        fleet(settings(tmp_path, pooler.url, valkey.url)) as found,
    ):
        conversation = await found.caller.conversation()
        turns = await asyncio.gather(*(found.caller.turn(conversation) for _ in range(5)))
        assert sorted(turn.seq for turn in turns) == [1, 2, 3, 4, 5]
        other = await found.caller.conversation()
        for seq in range(1, 4):
            assert (await found.caller.turn(other, key=f"key {seq}")).seq == seq


@pytest.mark.parametrize("by_transaction", [True, False])
async def test_pooler_is_recognised(postgres: Postgres, database_url: str, *, by_transaction: bool) -> None:
    """Named statements are used where they last, and only there. `on` is the control: it breaks."""
    async with pooling(postgres, database_url, by_transaction=by_transaction) as pooler:
        modes: tuple[Prepared, ...] = ("auto", "on")
        for prepared in modes:
            pool = Pool(pooler.url, size=2, timeout=10, prepared=prepared)
            # Both connections first, so that there is something to get mixed up.
            async with pool.connection(), pool.connection():
                pass
            breaks = by_transaction and prepared == "on"
            with pytest.raises(asyncpg.InvalidSQLStatementNameError) if breaks else nullcontext():
                for _ in range(4):
                    assert await pool.value("SELECT $1::int + 1", 1) == 2
            await pool.close()
