"""The queue in PostgreSQL, for as long as Valkey is gone: the same order, no wake-ups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.session.identifiers import split_conversation_id
from services.session.line import PLACE_TTL, Spot, Standing
from services.session.store.pool import Pool

# The conversation's lock makes "is there room" and "take it" one step. $4: places at most.
_JOIN = """
INSERT INTO turn_queue (conversation_id, turn_id, arrived_us, alive_until)
SELECT $1, $2, GREATEST(
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
        (SELECT COALESCE(max(arrived_us), 0) + 1 FROM turn_queue WHERE conversation_id = $1)
    ), clock_timestamp() + $3
WHERE (SELECT count(*) FROM turn_queue WHERE conversation_id = $1 AND turn_id <> $2
       AND alive_until > clock_timestamp()) < $4
ON CONFLICT (conversation_id, turn_id) DO UPDATE SET alive_until = excluded.alive_until
RETURNING arrived_us
"""
_SHOW = """
INSERT INTO turn_queue (conversation_id, turn_id, arrived_us, alive_until)
SELECT $1, w.turn_id, w.arrived_us, clock_timestamp() + $4
FROM unnest($2::uuid[], $3::bigint[]) AS w (turn_id, arrived_us) ORDER BY w.turn_id
ON CONFLICT (conversation_id, turn_id) DO UPDATE SET alive_until = excluded.alive_until
RETURNING turn_id, old.turn_id IS NULL AS returned
"""
_ORDER = """
SELECT turn_id FROM turn_queue WHERE conversation_id = $1 AND alive_until > clock_timestamp()
ORDER BY arrived_us, turn_id
"""
_HOLDS = """
SELECT EXISTS (SELECT FROM turn_queue WHERE conversation_id = $1 AND turn_id = $2 AND alive_until > clock_timestamp())
"""
_LEAVE = "DELETE FROM turn_queue WHERE conversation_id = $1 AND (turn_id = $2 OR alive_until < clock_timestamp())"


class PostgresQueue:
    """`services.session.line.Queue`. Raises Unavailable (STORE_UNAVAILABLE) alone."""

    def __init__(self, pool: Pool, *, max_queue: int, ttl: float = PLACE_TTL) -> None:
        self._pool = pool
        self._max_queue = max_queue
        self._ttl = timedelta(seconds=ttl)

    async def join(self, conversation_id: str, turn_id: str) -> Spot | None:
        """Takes the last place, or keeps the one it has; None when the queue is full."""
        _, conversation = split_conversation_id(conversation_id)
        async with self._pool.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", conversation)
            arrived = await connection.fetchval(_JOIN, conversation, turn_id, self._ttl, self._max_queue)
            if arrived is None:
                return None
            order = await connection.fetch(_ORDER, conversation)
        return Spot(arrived, [str(row["turn_id"]) for row in order].index(turn_id) + 1)

    async def show(self, conversation_id: str, waiters: Sequence[tuple[str, int]]) -> Standing:
        """These turns still wait; puts back those that are not known."""
        _, conversation = split_conversation_id(conversation_id)
        turns = [turn for turn, _ in waiters]
        async with self._pool.connection() as connection:
            shown = await connection.fetch(_SHOW, conversation, turns, [arrived for _, arrived in waiters], self._ttl)
            # A statement of its own, to see what the first has waited for.
            order = await connection.fetch(_ORDER, conversation)
        returned = frozenset(str(row["turn_id"]) for row in shown if row["returned"])
        return Standing([str(row["turn_id"]) for row in order], returned, wakes=False)

    async def leave(self, conversation_id: str, turn_id: str) -> int:
        """Gives a place up; says how many still wait."""
        _, conversation = split_conversation_id(conversation_id)
        async with self._pool.connection() as connection:
            await connection.execute(_LEAVE, conversation, turn_id)
            return len(await connection.fetch(_ORDER, conversation))

    async def holds(self, conversation_id: str, turn_id: str) -> bool:
        """True while the turn has a place."""
        _, conversation = split_conversation_id(conversation_id)
        return bool(await self._pool.value(_HOLDS, conversation, turn_id))

    async def wake(self, conversation_id: str, after: str) -> None:
        """Nobody hears it: the first waiter looks often."""
