"""PostgreSQL is killed with -9 under load, again and again: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.postgres import Postgres
from devstack.process import wait_until_ready
from devstack.valkey import Valkey
from services.session.migrate import migrate
from tests.chaos.turns import cluster, history
from tests.chaos.turns.cluster import Cluster, until_ready
from tests.chaos.turns.history import Tally
from tests.chaos.turns.stored import verdict

_LIVES = {False: 3, True: 20}
_ACKNOWLEDGED_EACH = 25
# A commit is acknowledged when it is in memory, and nothing brings it to the disk for a while.
_FORGETFUL = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}


@contextmanager
def _server(folder: Path, settings: Mapping[str, str]) -> Iterator[Postgres]:
    folder = folder / f"durable-{secrets.token_hex(4)}"
    server = Postgres(folder, folder / "postgres.log", password=secrets.token_hex(16), settings=settings)
    try:
        wait_until_ready([server.start()], timeout=60)
        yield server
    finally:
        server.stop()


async def _another_life(server: Postgres, cluster: Cluster, tally: Tally) -> None:
    """Some turns are acknowledged, then the server dies in the middle of its work and is started again."""
    await tally.reach("ack", tally.count("ack") + _ACKNOWLEDGED_EACH)
    server.process.kill()
    await until_ready(server.start())


async def test_every_acknowledged_turn_outlives_postgres(scratch: Path, valkey: Valkey, long_form: bool) -> None:
    lives = _LIVES[long_form]
    with _server(scratch, {}) as server:
        await migrate(server.url())
        async with cluster.running(scratch, server.url(), valkey.url, sessions=2) as running:
            conversations = await running.conversations(12)
            for _ in range(3):
                running.start_client(conversations)
            tally = Tally(running.history)
            for _ in range(lives):
                await _another_life(server, running, tally)
            await tally.reach("ack", tally.count("ack") + _ACKNOWLEDGED_EACH)
            await running.stop_clients()
            events = list(history.read(running.history))
        found, stored = await verdict(server.url(), events)
    kinds = Counter(event.kind for event in events)
    print(f"\n{lives} deaths of PostgreSQL: {kinds['ack']} acknowledged, {stored} stored, {kinds['unknown']} unknown")
    assert found == []


async def test_control_a_server_that_acknowledges_before_it_writes_loses_turns(scratch: Path, valkey: Valkey) -> None:
    with _server(scratch, _FORGETFUL) as server:
        await migrate(server.url())
        async with cluster.running(scratch, server.url(), valkey.url, sessions=1) as running:
            running.start_client(await running.conversations(4))
            server.execute("CHECKPOINT")
            tally = Tally(running.history)
            found: list[str] = []
            for _ in range(5):
                await _another_life(server, running, tally)
                found, _ = await verdict(server.url(), history.read(running.history))
                if any("is lost" in sentence for sentence in found):
                    return
                await asyncio.sleep(0.1)
    pytest.fail(f"five deaths lost no acknowledged turn; found: {found}")
