"""What happens by itself: expired keys, deleted and outdated conversations, dead holders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from services.session import email_address, refresh_tokens, sweeping
from services.session.store.people import PostgresPeople
from services.session.store.pool import Pool
from services.session.store.upkeep import PostgresUpkeep
from services.session.sweeping import Swept
from tests.contract.session.stores import Stores, new_id, postgres_stores, somebody

DIGEST = b"d" * 32


@dataclass
class House:
    """Stores, what keeps them tidy, and a way to look into them."""

    stores: Stores
    upkeep: PostgresUpkeep
    pool: Pool

    async def count(self, table: str) -> int:
        found: int = await self.pool.value(f"SELECT count(*) FROM {table}")
        return found

    async def tenant(self) -> None:
        """The tenant of `stores.me`, as sign-up makes it."""
        await self.pool.execute("INSERT INTO tenants (id, name) VALUES ($1, 'ours')", self.stores.me.tenant_id)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    pool = Pool(database_url, timeout=10)
    async with postgres_stores(database_url) as stores:
        yield House(stores, PostgresUpkeep(pool, key_life=timedelta(hours=24), undelete=timedelta(days=30)), pool)
    await pool.close()


async def test_expired_keys_go(house: House) -> None:
    await house.stores.turn(await house.stores.conversation(), key="old", digest=DIGEST)
    await house.stores.pass_time(24 * 3600 + 5)
    await house.stores.turn(await house.stores.conversation(), key="new", digest=DIGEST)
    assert (await house.upkeep.sweep()).keys == 1
    assert await house.count("idempotency_keys") == 1


async def test_deleted_conversations_are_destroyed_when_they_can_no_longer_be_restored(house: House) -> None:
    kept, gone = await house.stores.conversation(), await house.stores.conversation()
    await house.stores.turn(gone)
    await house.stores.conversations.share(house.stores.me, gone, b"secret", 5)
    await house.stores.conversations.delete(house.stores.me, gone)
    assert (await house.upkeep.sweep()).conversations == 0
    await house.stores.pass_time(30 * 24 * 3600 + 5)
    assert (await house.upkeep.sweep()).conversations == 1
    assert (await house.count("conversations"), await house.count("turns"), await house.count("shares")) == (1, 0, 0)
    assert await house.stores.conversations.get(house.stores.me, kept) is not None


async def test_turn_of_a_destroyed_conversation_is_refused(house: House) -> None:
    conversation = await house.stores.conversation()
    begun = await house.stores.begun(conversation)
    await house.stores.conversations.delete(house.stores.me, conversation)
    await house.stores.pass_time(30 * 24 * 3600 + 5)
    await house.upkeep.sweep()
    assert await house.stores.commit(house.stores.ending(conversation, begun)) is None


async def test_retention_is_each_tenants_own(house: House) -> None:
    """What has been quiet for longer than the tenant wants goes; of tenants that want nothing, all stays."""
    await house.tenant()
    ours, active = await house.stores.conversation(), await house.stores.conversation()
    house.stores.me, us = somebody(), house.stores.me
    theirs = await house.stores.conversation()
    await house.pool.execute("UPDATE conversations SET active_at = active_at - interval '8 days'")
    house.stores.me = us
    await house.stores.turn(active)
    assert (await house.upkeep.sweep()).conversations == 0
    await house.stores.conversations.set_retention(us, 7)
    assert (await house.upkeep.sweep()).conversations == 1
    left = {str(row["id"]) for row in await house.pool.rows("SELECT id FROM conversations")}
    assert left == {name.removeprefix("local-") for name in (active, theirs)}
    assert ours not in left


async def test_retention_can_be_ended(house: House) -> None:
    await house.tenant()
    await house.stores.conversation()
    await house.pool.execute("UPDATE conversations SET active_at = active_at - interval '8 days'")
    await house.stores.conversations.set_retention(house.stores.me, 7)
    await house.stores.conversations.set_retention(house.stores.me, 0)
    assert (await house.upkeep.sweep()).conversations == 0


async def test_dead_holders_and_places_go(house: House) -> None:
    await house.stores.turns.renew(new_id())
    await house.pool.execute(
        "INSERT INTO turn_queue VALUES ($1, $2, 1, clock_timestamp() - interval '2 minutes')", new_id(), new_id()
    )
    await house.stores.pass_time(63)
    await house.stores.turns.renew(new_id())
    assert await house.upkeep.sweep() == Swept(holders=1, places=1)
    assert await house.count("holders") == 1


async def test_expired_sign_ins_go(house: House) -> None:
    people = PostgresPeople(house.pool)
    address = email_address.parse("ada@example.org")
    assert address is not None
    ada = await people.create_person(address, "digest", "Ada")
    assert ada is not None
    tokens = [refresh_tokens.first() for _ in range(3)]
    for token in tokens:
        assert await people.open_family(ada, token.family, token.digest, 3600.0)
    await people.revoke_family(tokens[0].family)
    await house.pool.execute(
        "UPDATE refresh_families SET expires_at = expires_at - interval '2 h' WHERE id = ANY ($1)",
        [token.family for token in tokens[:2]],
    )
    assert await house.upkeep.sweep() == Swept(families=2)
    assert await people.rotate(tokens[2], refresh_tokens.salt(), lifetime=3600.0, grace=10.0) is not None


async def test_sweeps_at_once_do_each_thing_once(house: House) -> None:
    for n in range(5):
        await house.stores.turn(await house.stores.conversation(), key=f"key {n}", digest=DIGEST)
    await house.stores.pass_time(24 * 3600 + 5)
    swept = await asyncio.gather(*(house.upkeep.sweep() for _ in range(4)))
    assert sum(one.keys for one in swept) == 5


async def test_indexing_goes_on_until_nothing_is_left(house: House) -> None:
    house.stores.me = somebody()
    for _ in range(3):
        await house.stores.turn(await house.stores.conversation(), "elephant " + "x" * 200_000, "y " * 200_000)
    async with sweeping.running(house.upkeep, sweep_seconds=60, index_seconds=0.01), asyncio.timeout(30):
        while not await house.pool.value("SELECT bool_and(search IS NOT NULL) FROM turns, pg_sleep(0.02)"):
            pass
    found = await house.stores.conversations.search(house.stores.me, "elephants", None, 9)
    assert len(found) == 3


async def test_upkeep_outlives_the_stores_outages() -> None:
    """Its tasks do not end with the first failure."""
    nowhere = Pool("postgresql://focus:x@127.0.0.1:1/focus")
    upkeep = PostgresUpkeep(nowhere, key_life=timedelta(hours=24), undelete=timedelta(days=30))
    tries: asyncio.Queue[None] = asyncio.Queue()
    index = upkeep.index

    async def counted() -> int:
        tries.put_nowait(None)
        return await index()

    upkeep.index = counted  # type: ignore[method-assign]
    async with sweeping.running(upkeep, sweep_seconds=0.01, index_seconds=0.01), asyncio.timeout(30):
        for _ in range(3):
            await tries.get()
    await nowhere.close()
