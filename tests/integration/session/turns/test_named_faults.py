"""The two faults that straightforward versions were seen to have, and the late holder.

Each test has a control: the straightforward version, which shows the fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from services.session.model import Exchange
from services.session.store import turns as store
from tests.contract.session.fake_store import prepared
from tests.contract.session.stores import Stores, new_id, postgres_stores

# One statement: the lease is taken in a CTE, history and number are read beside it, so that both
# are of the moment when the statement began, before it waited for the row.
_BEGIN_AT_ONCE = """
WITH lease AS (
    UPDATE conversations SET fence = fence + 1, lease_turn = $2, lease_holder = $3, leased_at = clock_timestamp()
    WHERE id = $1 AND (lease_turn IS NULL OR NOT holder_lives(lease_holder)) RETURNING id
)
SELECT c.next_seq, (SELECT count(*) FROM turns t WHERE t.conversation_id = c.id) AS history
FROM lease JOIN conversations c USING (id)
"""


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with postgres_stores(database_url) as found:
        yield found


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


async def waits_for_a_lock(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Until another session of this database is seen waiting for a row."""
    while not await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ):
        await asyncio.sleep(0.01)
        await connection.execute("SELECT pg_stat_clear_snapshot()")


async def commit_in_transaction(
    stores: Stores, connection: asyncpg.Connection[asyncpg.Record], conversation: str
) -> asyncpg.transaction.Transaction:
    """A turn whose holder has died commits at this moment: stored, not yet visible."""
    begun = await stores.begun(conversation)
    ending = stores.ending(conversation, begun, "first?", "first.")
    ready = prepared(ending)
    await stores.turns.release(stores.holder)
    transaction = connection.transaction()
    await transaction.start()
    answer = ending.answer
    row = await connection.fetchrow(
        store._COMMIT,
        conversation.removeprefix("local-"),
        *(stores.me.tenant_id, stores.me.person_id, begun.fence, begun.turn_id),
        *(ready.digest, ready.title, ending.question, answer.text, 1, "", "", False),
        *(answer.tier, "", 0.0, 0, False, 0, 0, 0, 0, 0, ready.history_tokens),
        *(ready.question_digest, ready.answer_digest),
    )
    assert row is not None
    return transaction


async def test_begin_that_waited_for_a_commit_sees_it(
    stores: Stores, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    conversation = await stores.conversation()
    transaction = await commit_in_transaction(stores, connection, conversation)
    beginning = asyncio.create_task(stores.begun(conversation, holder_id=new_id()))
    await waits_for_a_lock(connection)
    await transaction.commit()
    begun = await beginning
    assert (begun.seq, begun.history) == (2, [Exchange("first?", "first.")])


async def test_control_begin_in_one_statement_sees_a_stale_history(
    stores: Stores, connection: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    conversation = await stores.conversation()
    transaction = await commit_in_transaction(stores, connection, conversation)
    other = await asyncpg.connect(database_url)
    beginning = asyncio.create_task(
        other.fetchrow(_BEGIN_AT_ONCE, conversation.removeprefix("local-"), new_id(), new_id())
    )
    await waits_for_a_lock(connection)
    await transaction.commit()
    row = await beginning
    await other.close()
    assert row is not None
    assert (row["next_seq"], row["history"]) == (1, 0), "the control no longer shows the fault"


async def test_begin_that_waited_sees_the_holders_of_now(
    stores: Stores, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A lease given to a holder that appeared while the begin waited is not taken for a dead one's."""
    conversation = await stores.conversation()
    name = conversation.removeprefix("local-")
    newborn = new_id()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "UPDATE conversations SET fence = fence + 1, lease_turn = $2, lease_holder = $3, leased_at = clock_timestamp() "
        "WHERE id = $1",
        *(name, new_id(), newborn),
    )
    beginning = asyncio.create_task(stores.turns.begin(stores.wanted(conversation), reached=False))
    await waits_for_a_lock(connection)
    await stores.turns.renew(newborn)
    await transaction.commit()
    assert (await beginning).status == "busy"


async def test_commit_repeated_after_a_lost_acknowledgement_stores_one_turn(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    first = await stores.commit(stores.ending(conversation, begun))
    assert await stores.commit(stores.ending(conversation, begun)) is None
    assert await stores.turns.find(stores.me, conversation, begun.turn_id) == first
    assert len(await stores.conversations.turns(conversation, 0, 9, 9)) == 1


async def test_control_commit_guarded_by_the_fence_alone_stores_two(
    stores: Stores, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With turn ids unique, as here, the second one is an error; without, it is a second row."""
    fence_alone = store._COMMIT.replace("AND lease_turn = $5", "")
    assert fence_alone != store._COMMIT
    monkeypatch.setattr(store, "_COMMIT", fence_alone)
    await connection.execute("ALTER TABLE turns DROP CONSTRAINT turns_conversation_id_id_key")
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    for _ in range(2):
        await stores.commit(stores.ending(conversation, begun))
    assert len(await stores.conversations.turns(conversation, 0, 9, 9)) == 2, "the control no longer shows the fault"


@pytest.mark.parametrize("guarded", [True, False])
async def test_holder_paused_past_its_time_cannot_store(
    stores: Stores, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the guard (the control) its turn comes in between what the heir saw and what it stores."""
    if not guarded:
        unguarded = store._COMMIT.replace(
            "AND fence = $4 AND lease_turn = $5", "AND ($4::bigint, $5::uuid) IS NOT NULL"
        )
        assert unguarded != store._COMMIT
        monkeypatch.setattr(store, "_COMMIT", unguarded)
    conversation = await stores.conversation()
    late = await stores.begun(conversation)
    await stores.pass_time(timedelta(seconds=3).total_seconds())
    heir = await stores.begun(conversation, holder_id=new_id())
    await stores.turns.renew(stores.holder)
    stored = await stores.commit(stores.ending(conversation, late, "late?"))
    assert (stored is None) is guarded
    turn = await stores.commit(stores.ending(conversation, heir, "heir?"))
    assert turn is not None
    assert (turn.seq == heir.seq) is guarded
