"""No crash loses a call and none doubles one: session processes over a real Valkey and PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.home import Home
from devstack.process import wait_until_ready
from devstack.services import Making, Service
from devstack.valkey import Valkey
from services.common import valkey as clients
from services.common.errors import Unavailable
from services.llm.store.limiter import LEDGER
from services.session import signing_keys
from services.session.ledger import Ledger
from services.session.store import usage
from services.session.store.pool import Pool
from services.session.store.usage import PostgresBook
from services.session.store.usage_events import STREAM, ValkeyEvents
from tests.contract.session.stores import new_id
from tests.integration.session.ledger.calls import COST, booked, left, until, write

CALLS = 5_000
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    found = Pool(database_url, timeout=10)
    yield found
    await found.close()


@contextmanager
def draining(scratch: Path, database_url: str, valkey: Valkey, number: int) -> Iterator[list[Service]]:
    """Session processes."""
    home = Home(scratch / f"ledger-{secrets.token_hex(4)}")
    home.prepare_folder()
    home.prepare()
    signing_keys.provide(home.signing_keys, home.jwks, "local")
    making = Making(home, {"FOCUS_SESSION_LEDGER_SECONDS": "0.02"})
    running = [making.session(f"session-{index}", database_url, valkey.url) for index in range(number)]
    try:
        wait_until_ready([one.start() for one in running], timeout=60)
        yield running
    finally:
        for one in running:
            one.process.stop()
            one.port.close()


def test_the_stream_is_the_one_that_the_llm_service_writes() -> None:
    assert STREAM == LEDGER


async def test_two_drainers_killed_in_the_middle_lose_and_double_nothing(
    scratch: Path, database_url: str, valkey: Valkey, pool: Pool
) -> None:
    tenant, total, killed_midway = new_id(), 0, 0
    with draining(scratch, database_url, valkey, 2) as running:
        for one in running:
            before = total
            total += CALLS
            await write(valkey.url, CALLS, tenant)
            await until(pool, tenant, lambda calls, before=before: calls > before)  # type: ignore[misc]
            one.process.kill()
            killed_midway += await left(valkey.url) > 0
            one.restart()
        assert await until(pool, tenant, lambda calls: calls >= total) == total
    assert killed_midway > 0
    assert await booked(pool, tenant) == (total, total * COST)
    assert await left(valkey.url) == 0


async def test_valkey_killed_in_the_middle_loses_and_doubles_nothing(
    scratch: Path, database_url: str, valkey: Valkey, pool: Pool
) -> None:
    tenant = new_id()
    with draining(scratch, database_url, valkey, 1):
        await write(valkey.url, CALLS, tenant)
        await until(pool, tenant, lambda calls: calls > 0)
        valkey.process.kill()
        wait_until_ready([valkey.start()], timeout=30)
        await until(pool, tenant, lambda calls: calls >= CALLS)
        # The processes that were there go on with what comes.
        await write(valkey.url, 10, tenant)
        assert await until(pool, tenant, lambda calls: calls >= CALLS + 10) == CALLS + 10
    assert await booked(pool, tenant) == (CALLS + 10, (CALLS + 10) * COST)


class _Crashing(ValkeyEvents):
    async def remove(self, ids: object) -> None:
        raise Unavailable("the process died here")


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control"])
async def test_only_the_rule_for_known_calls_keeps_a_crash_from_doubling(
    valkey: Valkey, pool: Pool, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """A process dies between the commit and the removal, and another one goes on."""
    if not guarded:
        await pool.execute("ALTER TABLE usage_events DROP CONSTRAINT usage_events_pkey")
        monkeypatch.setattr(usage, "_ADD", usage._ADD[: usage._ADD.index("ON CONFLICT")])
    tenant = new_id()
    await write(valkey.url, 100, tenant)
    client = clients.connect(valkey.url, timeout=5)
    book = PostgresBook(pool)
    with pytest.raises(Unavailable):
        await Ledger(_Crashing(client), book).drain()
    assert await Ledger(ValkeyEvents(client), book).drain() == 100
    await client.aclose()
    assert await booked(pool, tenant) == ((100, 100 * COST) if guarded else (200, 200 * COST))
    assert await left(valkey.url) == 0


async def test_one_books_at_a_time(valkey: Valkey, pool: Pool) -> None:
    tenant = new_id()
    await write(valkey.url, 3, tenant)
    client = clients.connect(valkey.url, timeout=5)
    ledger = Ledger(ValkeyEvents(client), PostgresBook(pool))
    async with pool.transaction(10) as busy:
        await busy.execute(f"SELECT pg_advisory_xact_lock({usage._LOCK})")
        assert await ledger.drain() == 0
    assert await left(valkey.url) == 3
    assert await ledger.drain() == 3
    await client.aclose()
