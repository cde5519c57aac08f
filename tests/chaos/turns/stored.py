"""The turns of a run as they lie in the tables, and the verdict over them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable

import asyncpg

from tests.chaos.turns.checker import StoredTurn, violations
from tests.chaos.turns.history import Event

_ROWS = """
SELECT c.region || '-' || c.id AS conversation, t.id, t.seq, t.fence, t.question, t.answer, t.outcome,
       t.hash, t.previous_hash, c.next_seq, c.last_hash
FROM turns t JOIN conversations c ON c.id = t.conversation_id ORDER BY c.id, t.seq
"""


async def verdict(database_url: str, events: Iterable[Event]) -> tuple[list[str], int]:
    """Every broken promise, and how many turns are stored."""
    events = list(events)
    keys = {event.turn: event.key for event in events if event.kind == "invoke" and event.key}
    connection = await asyncpg.connect(database_url, timeout=30)
    try:
        rows = await connection.fetch(_ROWS)
    finally:
        await connection.close()
    stored: list[StoredTurn] = []
    right: dict[tuple[str, int], bytes] = {}
    found = []
    for row in rows:
        turn = str(row["id"])
        stored.append(
            StoredTurn(
                row["conversation"],
                turn,
                row["seq"],
                row["fence"],
                row["question"],
                row["hash"],
                row["previous_hash"],
                keys.get(turn),
            )
        )
        right[turn, row["seq"]] = _hash(row)
        if row["seq"] == 1 and row["previous_hash"] != _before_first(row["conversation"]):
            found.append(f"{row['conversation']}: the first turn carries a wrong hash")
        if row["seq"] == row["next_seq"] - 1 and row["last_hash"] != row["hash"]:
            found.append(f"{row['conversation']}: its last hash is not that of its last turn")
        if row["seq"] >= row["next_seq"]:
            found.append(f"{row['conversation']}: turn {row['seq']} lies beyond its end")
    found += violations(events, stored, hash_of=lambda row: right[row.turn, row.seq])
    return found, len(stored)


def _hash(row: asyncpg.Record) -> bytes:
    """As `focus.session.v1.Turn.hash` is defined, written anew from that definition."""

    def sha(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    question, answer = sha(row["question"].encode()), sha(row["answer"].encode())
    digest = sha(row["id"].bytes, bytes([row["outcome"]]), question, answer)
    return sha(row["previous_hash"], row["seq"].to_bytes(8, "big"), digest)


def _before_first(conversation: str) -> bytes:
    return hashlib.sha256(uuid.UUID(conversation[-36:]).bytes).digest()
