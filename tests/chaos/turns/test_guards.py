"""Each half of the commit's condition, and what happens without it.

The sequences are those that the design page names; nothing here is left to chance.
"""

from __future__ import annotations

import asyncpg
import pytest

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import FocusError
from tests.chaos.turns import history
from tests.chaos.turns.cluster import Cluster
from tests.chaos.turns.conftest import Start
from tests.chaos.turns.direct import callers, new_turn
from tests.chaos.turns.stored import verdict

_LEASE_LOST = ErrorReason.ERROR_REASON_LEASE_LOST


async def _late_holder(cluster: Cluster) -> None:
    """A holder's lease runs out, another one answers, and the first one commits after all."""
    [conversation] = await cluster.conversations(1)
    late, turn, other = new_turn(), new_turn(), new_turn()
    async with callers(cluster, 2) as (paused, present):
        stale = await paused.lease(conversation, late)
        await paused.die()
        fresh = await present.lease(conversation, turn)
        await present.commit(conversation, turn, fresh.fence)
        held = await present.lease(conversation, other)
        try:
            await paused.commit(conversation, late, stale.fence)
        finally:
            await present.commit(conversation, other, held.fence)


async def _turn_taken_twice(cluster: Cluster) -> None:
    """A turn is begun, overtaken and begun again under its id; then its first holder commits."""
    [conversation] = await cluster.conversations(1)
    turn, other = new_turn(), new_turn()
    async with callers(cluster, 2) as (first, second):
        stale = await first.lease(conversation, turn)
        await first.die()
        fresh = await second.lease(conversation, other)
        await second.commit(conversation, other, fresh.fence)
        await second.lease(conversation, turn)
        # What it answered does not know of the other turn.
        first.recorder.record("begun", conversation, turn, fence=stale.fence, seq=stale.seq)
        await first.commit(conversation, turn, stale.fence)


async def _repeated(cluster: Cluster) -> None:
    """A commit's acknowledgement was lost, so the holder repeats it."""
    [conversation] = await cluster.conversations(1)
    turn = new_turn()
    async with callers(cluster, 1) as (holder,):
        begun = await holder.lease(conversation, turn)
        await holder.commit(conversation, turn, begun.fence)
        await holder.commit(conversation, turn, begun.fence)


@pytest.mark.parametrize("sequence", [_late_holder, _turn_taken_twice])
async def test_who_lost_the_lease_is_told_and_stores_nothing(start: Start, database_url: str, sequence: object) -> None:
    assert callable(sequence)
    async with start(sessions=1) as cluster:
        with pytest.raises(FocusError) as refused:
            await sequence(cluster)
        assert refused.value.reason == _LEASE_LOST
        if sequence is _late_holder:
            assert await verdict(database_url, history.read(cluster.history)) == ([], 2)


async def test_a_repeated_commit_answers_what_was_stored(start: Start, database_url: str) -> None:
    async with start(sessions=1) as cluster:
        await _repeated(cluster)
        assert await verdict(database_url, history.read(cluster.history)) == ([], 1)


@pytest.mark.parametrize(
    ("weakened", "sequence", "found"),
    [
        ("unfenced", _late_holder, "was shown 0 turns"),
        ("without_number", _turn_taken_twice, "was shown 0 turns"),
        ("without_turn", _repeated, "is stored 2 times"),
    ],
    ids=["the whole condition", "the fence's number", "the lease's turn"],
)
async def test_control_without_it_the_checker_finds_a_violation(
    start: Start, database_url: str, weakened: str, sequence: object, found: str
) -> None:
    assert callable(sequence)
    if weakened == "without_turn":
        # Behind the condition stands a second guard: the table's own.
        connection = await asyncpg.connect(database_url)
        await connection.execute("ALTER TABLE turns DROP CONSTRAINT turns_conversation_id_id_key")
        await connection.close()
    async with start(sessions=1, weakened=weakened) as cluster:
        await sequence(cluster)
        broken, _ = await verdict(database_url, history.read(cluster.history))
    assert any(found in sentence for sentence in broken), broken
