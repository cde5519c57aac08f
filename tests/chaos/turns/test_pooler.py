"""Behind a transaction-pooling proxy everything holds as without."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from devstack.valkey import Valkey
from tests.chaos.turns import cluster, history
from tests.chaos.turns.history import Tally
from tests.chaos.turns.nemesis import Nemesis
from tests.chaos.turns.pooler import binary, pooled
from tests.chaos.turns.stored import verdict

pytestmark = pytest.mark.skipif(binary() is None, reason="PgBouncer is not installed (Debian's package pgbouncer)")


async def test_nothing_acknowledged_is_lost_behind_a_transaction_pooler(
    scratch: Path, database_url: str, valkey: Valkey, long_form: bool
) -> None:
    turns = 2000 if long_form else 150
    async with (
        pooled(scratch, database_url) as url,
        cluster.running(scratch, url, valkey.url, sessions=2) as running,
    ):
        conversations = await running.conversations(8)
        for _ in range(3):
            running.start_client(conversations)
        tally = Tally(running.history)
        nemesis = Nemesis(running, database_url, valkey, lambda: running.start_client(conversations))
        await tally.reach("ack", turns // 2)
        # The proxy's own connections to the server, under its clients' feet.
        await nemesis.cut_connections()
        await nemesis.pause_client()
        await tally.reach("ack", turns)
        await running.stop_clients()
        events = list(history.read(running.history))
    found, stored = await verdict(database_url, events)
    kinds = Counter(event.kind for event in events)
    print(f"\nbehind PgBouncer: {kinds['ack']} acknowledged, {stored} stored, {kinds['unknown']} unknown")
    assert found == []


@pytest.mark.parametrize(("prepared", "fails"), [("auto", False), ("on", True)], ids=["as it is", "control"])
async def test_named_statements_which_a_pooler_breaks_are_left_out(
    scratch: Path, database_url: str, valkey: Valkey, prepared: str, fails: bool
) -> None:
    settings = {"FOCUS_SESSION_DATABASE_PREPARED_STATEMENTS": prepared}
    async with (
        pooled(scratch, database_url, connections=2) as url,
        cluster.running(scratch, url, valkey.url, sessions=2, settings=settings) as running,
    ):
        # Many at once, so that connections change their servers.
        many = (running.conversations(5) for _ in range(20))
        failures = [one for one in await asyncio.gather(*many, return_exceptions=True) if isinstance(one, Exception)]
    assert bool(failures) == fails
