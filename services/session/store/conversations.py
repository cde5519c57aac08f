"""Conversations in PostgreSQL."""
# ruff: noqa: S608 -- the statements are put together of constants only

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from services.session.conversations import Found, ListPosition, SearchPosition, Share
from services.session.identifiers import split_conversation_id
from services.session.model import Conversation, Principal, Turn
from services.session.store.pool import Pool
from services.session.store.turns import TURN_COLUMNS, turn_of

# Searching may take longer than what a turn waits for.
_SEARCH_SECONDS = 5.0

_COLUMNS = "c.id, c.region, c.title, c.created_at, c.active_at, c.next_seq - 1 AS turn_count"
_OWN = "c.id = $1 AND c.region = $2 AND c.tenant_id = $3 AND c.person_id = $4"
_CREATE = f"""
INSERT INTO conversations AS c (id, region, tenant_id, person_id, title, last_hash)
SELECT n.id, $1, $2, $3, $4, sha256(uuid_send(n.id)) FROM (SELECT uuidv7() AS id OFFSET 0) n
WHERE (
    SELECT count(*) FROM conversations WHERE tenant_id = $2 AND person_id = $3 AND deleted_at IS NULL
) < $5
RETURNING {_COLUMNS}
"""
_GET = f"SELECT {_COLUMNS} FROM conversations c WHERE {_OWN} AND c.deleted_at IS NULL"
# A page ends early rather than outgrow a gRPC message (16 MiB).
_TURNS = f"""
SELECT {TURN_COLUMNS} FROM (
    SELECT t.*, sum(octet_length(question) + octet_length(answer)) OVER (ORDER BY seq) AS size
    FROM (SELECT * FROM turns WHERE conversation_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4) t
) t
WHERE t.size - octet_length(t.question) - octet_length(t.answer) < 8000000 ORDER BY t.seq
"""
# As the list stood at $3: what has been active since then is put back where it was, which its
# turns tell. The rest is read from the index in order.
_LIST = f"""
WITH listed AS (
    (
        SELECT c.*, c.active_at AS at FROM conversations c
        WHERE c.tenant_id = $1 AND c.person_id = $2 AND c.deleted_at IS NULL
            AND c.active_at <= $3 AND (c.active_at, c.id) < ($4, $5)
        ORDER BY c.active_at DESC, c.id DESC LIMIT $6
    )
    UNION ALL
    SELECT c.*, COALESCE(
        (SELECT t.created_at FROM turns t WHERE t.conversation_id = c.id AND t.created_at <= $3
         ORDER BY t.seq DESC LIMIT 1), c.created_at)
    FROM conversations c
    WHERE c.tenant_id = $1 AND c.person_id = $2 AND c.deleted_at IS NULL AND c.active_at > $3 AND c.created_at <= $3
)
SELECT {_COLUMNS}, c.at FROM listed c WHERE (c.at, c.id) < ($4, $5) ORDER BY c.at DESC, c.id DESC LIMIT $6
"""
_RENAME = f"""
UPDATE conversations c SET title = $5, titled_by = NULL WHERE {_OWN} AND c.deleted_at IS NULL RETURNING {_COLUMNS}
"""
_DELETE = f"""
UPDATE conversations c SET deleted_at = clock_timestamp() WHERE {_OWN} AND c.deleted_at IS NULL RETURNING c.deleted_at
"""
_RESTORE = f"""
UPDATE conversations c SET deleted_at = NULL
WHERE {_OWN} AND (c.deleted_at IS NULL OR c.deleted_at > clock_timestamp() - $5::interval) RETURNING {_COLUMNS}
"""
# A title that was made of the question goes with it.
_ERASE = f"""
WITH t AS (
    UPDATE turns t SET question = '', answer = '', history_tokens = 0, search = '',
        erased_at = COALESCE(t.erased_at, clock_timestamp())
    FROM conversations c WHERE c.id = t.conversation_id AND {_OWN} AND c.deleted_at IS NULL AND t.id = $5
    RETURNING t.*
), c AS (
    UPDATE conversations c SET title = '', titled_by = NULL FROM t WHERE {_OWN} AND c.titled_by = t.seq
)
SELECT {TURN_COLUMNS} FROM t
"""
_SEARCH = """
WITH q AS MATERIALIZED (SELECT turn_query($1, $2, $3) AS query), found AS (
    SELECT c.id, c.region, c.title, t.id AS turn_id, t.seq, t.created_at, t.question, t.answer
    FROM q, turns t JOIN conversations c ON c.id = t.conversation_id
    WHERE t.search @@ q.query AND c.tenant_id = $1 AND c.person_id = $2 AND c.deleted_at IS NULL
        AND (t.created_at, c.id, t.seq) < ($4, $5, $6)
    ORDER BY t.created_at DESC, c.id DESC, t.seq DESC LIMIT $7
)
SELECT id, region, title, turn_id, seq, created_at, ts_headline(
    'portuguese', left(question || ' — ' || answer, 20000),
    websearch_to_tsquery('portuguese', $3) || websearch_to_tsquery('english', $3),
    'StartSel="", StopSel="", MaxWords=30, MinWords=12') AS snippet
FROM found ORDER BY created_at DESC, id DESC, seq DESC
"""
_SHARE = f"""
INSERT INTO shares (secret_hash, conversation_id, last_seq)
SELECT $5, c.id, c.next_seq - 1 FROM conversations c
WHERE {_OWN} AND c.deleted_at IS NULL AND (SELECT count(*) FROM shares s WHERE s.conversation_id = c.id) < $6
RETURNING id, created_at, last_seq
"""
_SHARES = "SELECT id, created_at, last_seq FROM shares WHERE conversation_id = $1 ORDER BY created_at DESC, id"
_WITHDRAW = """
DELETE FROM shares s USING conversations c
WHERE s.id = $1 AND c.id = s.conversation_id AND c.tenant_id = $2 AND c.person_id = $3
"""
_SHARED = f"""
SELECT {_COLUMNS}, s.id AS share_id, s.created_at AS shared_at, s.last_seq
FROM shares s JOIN conversations c ON c.id = s.conversation_id WHERE s.secret_hash = $1 AND c.deleted_at IS NULL
"""
_RETENTION = """
UPDATE tenants SET settings = CASE WHEN $2::int = 0 THEN settings - 'retention_days'
    ELSE jsonb_set(settings, '{retention_days}', to_jsonb($2::int)) END
WHERE id = $1
"""
_LAST_UUID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class PostgresConversations:
    """`services.session.conversations.ConversationStore`. Raises Unavailable (STORE_UNAVAILABLE) alone."""

    def __init__(self, pool: Pool, *, region: str, max_conversations: int) -> None:
        self._pool = pool
        self._region = region
        self._max_conversations = max_conversations

    async def create(self, principal: Principal, title: str) -> Conversation | None:
        """A new conversation; None when the person has as many as may be."""
        row = await self._pool.row(
            _CREATE, self._region, principal.tenant_id, principal.person_id, title, self._max_conversations
        )
        return None if row is None else _conversation(row)

    async def get(self, principal: Principal, conversation_id: str) -> Conversation | None:
        """The principal's own conversation."""
        row = await self._pool.row(_GET, *_own(principal, conversation_id))
        return None if row is None else _conversation(row)

    async def turns(self, conversation_id: str, after: int, last: int, limit: int) -> Sequence[Turn]:
        """Turns with after < seq <= last, oldest first."""
        _, conversation = split_conversation_id(conversation_id)
        return [turn_of(row) for row in await self._pool.rows(_TURNS, conversation, after, last, limit)]

    async def listed(
        self, principal: Principal, after: ListPosition | None, limit: int
    ) -> tuple[Sequence[tuple[Conversation, datetime]], datetime]:
        """Conversations, newest activity first, as they stood when the first page was read."""
        async with self._pool.connection() as connection:
            if after is None:
                now = await connection.fetchval("SELECT clock_timestamp()")
                after = ListPosition(now, now + timedelta(days=1), _LAST_UUID)
            rows = await connection.fetch(
                _LIST,
                principal.tenant_id,
                principal.person_id,
                after.as_of,
                after.active_at,
                after.conversation_uuid,
                limit,
            )
        return [(_conversation(row), row["at"]) for row in rows], after.as_of

    async def rename(self, principal: Principal, conversation_id: str, title: str) -> Conversation | None:
        """Sets the title."""
        row = await self._pool.row(_RENAME, *_own(principal, conversation_id), title)
        return None if row is None else _conversation(row)

    async def delete(self, principal: Principal, conversation_id: str) -> datetime | None:
        """Hides it; gives the moment."""
        deleted_at: datetime | None = await self._pool.value(_DELETE, *_own(principal, conversation_id))
        return deleted_at

    async def restore(
        self, principal: Principal, conversation_id: str, deleted_after: timedelta
    ) -> Conversation | None:
        """Shows it again, unless it was deleted longer ago than that."""
        row = await self._pool.row(_RESTORE, *_own(principal, conversation_id), deleted_after)
        return None if row is None else _conversation(row)

    async def erase(self, principal: Principal, conversation_id: str, turn_id: str) -> Turn | None:
        """Destroys a turn's texts."""
        row = await self._pool.row(_ERASE, *_own(principal, conversation_id), turn_id)
        return None if row is None else turn_of(row)

    async def search(
        self, principal: Principal, query: str, after: SearchPosition | None, limit: int
    ) -> Sequence[Found]:
        """Indexed turns with the words of the query, newest first."""
        position: tuple[datetime, str, int] = (datetime.max.replace(tzinfo=UTC), _LAST_UUID, 0)
        if after is not None:
            position = (after.created_at, after.conversation_uuid, after.seq)
        rows = await self._pool.rows(
            _SEARCH, principal.tenant_id, principal.person_id, query, *position, limit, timeout=_SEARCH_SECONDS
        )
        return [
            Found(
                f"{row['region']}-{row['id']}",
                row["title"],
                str(row["turn_id"]),
                row["seq"],
                row["created_at"],
                row["snippet"],
            )
            for row in rows
        ]

    async def share(self, principal: Principal, conversation_id: str, secret_hash: bytes, most: int) -> Share | None:
        """A link; None when there are as many as may be."""
        row = await self._pool.row(_SHARE, *_own(principal, conversation_id), secret_hash, most)
        return None if row is None else _share(row, conversation_id)

    async def shares(self, conversation_id: str) -> Sequence[Share]:
        """The links to a conversation, newest first."""
        _, conversation = split_conversation_id(conversation_id)
        return [_share(row, conversation_id) for row in await self._pool.rows(_SHARES, conversation)]

    async def withdraw(self, principal: Principal, share_id: str) -> bool:
        """Ends a link to a conversation of the principal's."""
        tag = await self._pool.execute(_WITHDRAW, share_id, principal.tenant_id, principal.person_id)
        return tag == "DELETE 1"

    async def shared(self, secret_hash: bytes) -> tuple[Conversation, Share] | None:
        """The conversation that a link shows."""
        row = await self._pool.row(_SHARED, secret_hash)
        if row is None:
            return None
        conversation = _conversation(row)
        return conversation, Share(str(row["share_id"]), conversation.id, row["shared_at"], row["last_seq"])

    async def set_retention(self, principal: Principal, days: int) -> None:
        """Days that the tenant's conversations live without activity; 0: for ever."""
        await self._pool.execute(_RETENTION, principal.tenant_id, days)


def _own(principal: Principal, conversation_id: str) -> tuple[str, str, str, str]:
    region, conversation = split_conversation_id(conversation_id)
    return conversation, region, principal.tenant_id, principal.person_id


def _conversation(row: asyncpg.Record) -> Conversation:
    return Conversation(
        f"{row['region']}-{row['id']}", row["title"], row["created_at"], row["active_at"], row["turn_count"]
    )


def _share(row: asyncpg.Record, conversation_id: str) -> Share:
    return Share(str(row["id"]), conversation_id, row["created_at"], row["last_seq"])
