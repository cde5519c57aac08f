"""Expired rows and the search index, in small steps."""

from __future__ import annotations

from datetime import timedelta

from services.session.store.pool import Pool
from services.session.sweeping import Swept

_SECONDS = 10.0
_INDEX_LOCK = 4_173_908_266_512

_KEYS = """
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_keys WHERE created_at < clock_timestamp() - $1::interval
    LIMIT 1000 FOR UPDATE SKIP LOCKED))
"""
_DELETED = """
DELETE FROM conversations WHERE id = ANY (ARRAY(
    SELECT id FROM conversations WHERE deleted_at < clock_timestamp() - $1::interval
    ORDER BY deleted_at LIMIT 100 FOR UPDATE SKIP LOCKED))
"""
_OUTDATED = """
DELETE FROM conversations WHERE id = ANY (ARRAY(
    SELECT c.id FROM tenants t JOIN conversations c ON c.tenant_id = t.id
    WHERE t.settings ? 'retention_days' AND c.deleted_at IS NULL
        AND c.active_at < clock_timestamp() - make_interval(days => (t.settings ->> 'retention_days')::int)
    LIMIT 100 FOR UPDATE OF c SKIP LOCKED))
"""
_HOLDERS = "DELETE FROM holders WHERE expires_at < clock_timestamp() - interval '1 minute'"
# A revoked family says nothing that an unknown one does not, and expires like any other.
_FAMILIES = """
DELETE FROM refresh_families WHERE id = ANY (ARRAY(
    SELECT id FROM refresh_families WHERE expires_at < clock_timestamp()
    ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED))
"""
_PLACES = "DELETE FROM turn_queue WHERE alive_until < clock_timestamp() - interval '1 minute'"
# One process at a time: the others would only compute the same.
_INDEX = """
WITH new AS (
    SELECT t.conversation_id, t.seq, c.tenant_id, c.person_id
    FROM turns t JOIN conversations c ON c.id = t.conversation_id
    WHERE t.search IS NULL LIMIT 100 FOR UPDATE OF t SKIP LOCKED
)
UPDATE turns t SET search = turn_vector(n.tenant_id, n.person_id, left(t.question || ' ' || t.answer, 150000))
FROM new n WHERE t.conversation_id = n.conversation_id AND t.seq = n.seq
"""


class PostgresUpkeep:
    """`services.session.sweeping.Upkeep`."""

    def __init__(self, pool: Pool, *, key_life: timedelta, undelete: timedelta) -> None:
        self._pool = pool
        self._key_life = key_life
        self._undelete = undelete

    async def sweep(self) -> Swept:
        """Removes some of what has expired."""
        keys = await self._delete(_KEYS, self._key_life)
        conversations = await self._delete(_DELETED, self._undelete) + await self._delete(_OUTDATED)
        holders, places = await self._delete(_HOLDERS), await self._delete(_PLACES)
        return Swept(keys, conversations, holders, places, await self._delete(_FAMILIES))

    async def index(self) -> int:
        """Makes up to 100 new turns searchable."""
        async with self._pool.transaction(_SECONDS) as connection:
            if not await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({_INDEX_LOCK})"):
                return 0
            return int((await connection.execute(_INDEX)).removeprefix("UPDATE "))

    async def _delete(self, sql: str, *args: object) -> int:
        tag = await self._pool.execute(sql, *args, timeout=_SECONDS)
        return int(tag.removeprefix("DELETE "))
