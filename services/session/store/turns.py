"""Turns and leases in PostgreSQL. What is safe is decided here, by single statements."""
# ruff: noqa: S608 -- the statements are put together of constants only

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from services.session.identifiers import split_conversation_id
from services.session.model import Answer, Begun, Ending, Exchange, Outcome, Principal, Turn, Wanted
from services.session.store.pool import Pool
from services.session.turns import Attempt, Committed, Prepared

# A queue is believed to exist for this long after somebody was last seen in it. Its first
# waiter tries at least once a second.
QUEUE_MARK = timedelta(seconds=3)

_BEGIN = "SELECT * FROM begin_turn($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
_ABANDON = "SELECT abandon_turn($1, $2, $3, $4)"
_CALM = """
UPDATE conversations SET queued_until = NULL WHERE id = $1 AND lease_turn = $2 AND queued_until = $3
"""
RENEW = """
INSERT INTO holders (id, expires_at) VALUES ($1, clock_timestamp() + $2)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
"""
_BEAT = """
INSERT INTO holders (id, expires_at) VALUES ($1, clock_timestamp() + $2)
ON CONFLICT (id) DO UPDATE SET
    expires_at = excluded.expires_at,
    cancelled = CASE WHEN holders.cancelled && $3::uuid[]
        THEN ARRAY(SELECT turn FROM unnest(holders.cancelled) turn WHERE turn <> ALL ($3)) ELSE holders.cancelled END
RETURNING cancelled
"""
# Whether the holder lives: NULL, the turn has no lease.
_CANCEL = """
WITH lease AS (
    SELECT lease_holder AS holder FROM conversations
    WHERE id = $1 AND tenant_id = $2 AND person_id = $3 AND lease_turn = $4
), told AS (
    UPDATE holders SET cancelled = cancelled || $4::uuid
    WHERE id = (SELECT holder FROM lease) AND $4 <> ALL (cancelled)
)
SELECT holder_lives(holder) FROM lease
"""
_CANCEL_WAITING = """
WITH own AS (
    SELECT FROM conversations WHERE id = $1 AND tenant_id = $2 AND person_id = $3
), told AS (
    UPDATE holders SET cancelled = cancelled || $4::uuid
    WHERE EXISTS (SELECT FROM own) AND expires_at > clock_timestamp() AND $4 <> ALL (cancelled)
)
SELECT EXISTS (SELECT FROM own)
"""
_RELEASE = "DELETE FROM holders WHERE id = $1"
_KEEP_KEY = "UPDATE idempotency_keys SET waiting_until = clock_timestamp() + $2 WHERE attempt_id = $1"

TURN_COLUMNS = """t.id, t.seq, t.parent_id, t.question, t.outcome, t.answer, t.tier, t.model, t.confidence,
    t.finish_reason, t.escalated, t.prompt_tokens, t.cached_tokens, t.output_tokens, t.thought_tokens,
    t.cost_microusd, t.failure_reason, t.failure_message, t.created_at, t.question_digest, t.answer_digest,
    t.previous_hash, t.hash, t.fence, t.erased_at IS NOT NULL AS erased"""

# Fence and turn together: the fence alone does not change between an answer that got lost and
# its repetition. The row is updated first, so whoever waits for it finds the turn stored.
_COMMIT = """
WITH c AS (
    UPDATE conversations
    SET next_seq = next_seq + 1,
        last_hash = sha256(last_hash || int8send(next_seq) || $6),
        lease_turn = NULL, lease_holder = NULL, leased_at = NULL,
        title = CASE WHEN title = '' THEN $7 ELSE title END,
        titled_by = CASE WHEN title = '' THEN next_seq ELSE titled_by END,
        active_at = clock_timestamp()
    WHERE id = $1 AND tenant_id = $2 AND person_id = $3 AND fence = $4 AND lease_turn = $5
    RETURNING old.next_seq AS seq, new.fence, old.lease_parent AS parent, old.last_hash AS previous,
              new.last_hash AS hash, new.active_at AS at, new.queued_until > clock_timestamp() AS queued
), t AS (
    INSERT INTO turns (conversation_id, seq, id, parent_seq, parent_id, fence, question, answer, outcome,
        failure_reason, failure_message, retriable, tier, model, confidence, finish_reason, escalated,
        prompt_tokens, cached_tokens, output_tokens, thought_tokens, cost_microusd, history_tokens,
        question_digest, answer_digest, previous_hash, hash, created_at)
    SELECT $1, c.seq, $5, c.parent, (SELECT p.id FROM turns p WHERE p.conversation_id = $1 AND p.seq = c.parent),
        c.fence, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26,
        c.previous, c.hash, c.at
    FROM c
    RETURNING parent_id
)
SELECT c.seq, c.previous, c.hash, c.at, c.queued, t.parent_id FROM c, t
"""
_FIND = f"""
SELECT {TURN_COLUMNS} FROM turns t JOIN conversations c ON c.id = t.conversation_id
WHERE t.conversation_id = $1 AND t.id = $4 AND c.tenant_id = $2 AND c.person_id = $3
"""


@dataclass(frozen=True, slots=True)
class TurnRules:
    """Times and numbers that the statements need."""

    holder_ttl: timedelta
    max_lease: timedelta
    key_life: timedelta
    history_max_turns: int
    max_turns: int


class PostgresTurns:
    """`services.session.turns.TurnStore`. Raises Unavailable (STORE_UNAVAILABLE) alone."""

    def __init__(self, pool: Pool, rules: TurnRules) -> None:
        self._pool = pool
        self._rules = rules

    async def begin(self, wanted: Wanted, *, reached: bool) -> Attempt:
        """Takes the lease if it is free and nobody waits, or `reached` says that the waiting is over."""
        region, conversation = split_conversation_id(wanted.conversation_id)
        rules = self._rules
        row = await self._pool.row(
            _BEGIN,
            conversation,
            region,
            wanted.principal.tenant_id,
            wanted.principal.person_id,
            wanted.holder_id,
            wanted.turn_id,
            wanted.parent_id or None,
            wanted.replaces_id or None,
            wanted.key or None,
            wanted.digest,
            wanted.budget,
            reached,
            rules.history_max_turns,
            rules.max_turns,
            QUEUE_MARK,
            rules.max_lease,
            rules.key_life,
        )
        assert row is not None
        status: str = row["status"]
        if status != "begun":
            busy_ms = row["busy_ms"]
            busy = 0.0 if busy_ms is None else max(busy_ms / 1000, 0.0)
            return Attempt(status, stored_id=str(row["stored"] or ""), busy_seconds=busy)
        questions, answers = row["questions"] or (), row["answers"] or ()
        begun = Begun(
            wanted.turn_id,
            row["fence"],
            row["seq"],
            str(row["parent"] or ""),
            [Exchange(question, answer) for question, answer in zip(questions, answers, strict=True)],
            row["cut"],
            row["replaced_question"] or "",
        )
        return Attempt(status, begun, holder_alive=row["holder_alive"], mark=row["marked"])

    async def commit(self, ending: Ending, prepared: Prepared) -> Committed | None:
        """Stores a turn if fence and turn are those of the lease; None if they are not."""
        _, conversation = split_conversation_id(ending.conversation_id)
        answer = ending.answer
        row = await self._pool.row(
            _COMMIT,
            conversation,
            ending.principal.tenant_id,
            ending.principal.person_id,
            ending.fence,
            ending.turn_id,
            prepared.digest,
            prepared.title,
            ending.question,
            answer.text,
            int(ending.outcome),
            ending.failure_reason,
            ending.failure_message,
            prepared.retriable,
            answer.tier,
            answer.model,
            answer.confidence,
            answer.finish_reason,
            answer.escalated,
            answer.prompt_tokens,
            answer.cached_tokens,
            answer.output_tokens,
            answer.thought_tokens,
            answer.cost_microusd,
            prepared.history_tokens,
            prepared.question_digest,
            prepared.answer_digest,
        )
        if row is None:
            return None
        turn = Turn(
            id=ending.turn_id,
            seq=row["seq"],
            parent_id=str(row["parent_id"] or ""),
            question=ending.question,
            outcome=ending.outcome,
            answer=answer,
            failure_reason=ending.failure_reason,
            failure_message=ending.failure_message,
            created_at=row["at"],
            question_digest=prepared.question_digest,
            answer_digest=prepared.answer_digest,
            previous_hash=row["previous"],
            hash=row["hash"],
            fence=ending.fence,
            erased=False,
        )
        return Committed(turn, bool(row["queued"]))

    async def find(self, principal: Principal, conversation_id: str, turn_id: str) -> Turn | None:
        """A stored turn of the caller's own conversation, deleted ones included."""
        _, conversation = split_conversation_id(conversation_id)
        row = await self._pool.row(_FIND, conversation, principal.tenant_id, principal.person_id, turn_id)
        return None if row is None else turn_of(row)

    async def abandon(self, principal: Principal, conversation_id: str, turn_id: str) -> bool | None:
        """Frees lease and key of a turn that was not stored.

        Says whether somebody waits for the lease; None: the turn had none.
        """
        _, conversation = split_conversation_id(conversation_id)
        args = (conversation, principal.tenant_id, principal.person_id, turn_id)
        queued: bool | None = await self._pool.value(_ABANDON, *args)
        return queued

    async def calm(self, conversation_id: str, turn_id: str, mark: datetime) -> None:
        """Nobody waits any more: takes the mark back unless somebody has renewed it."""
        _, conversation = split_conversation_id(conversation_id)
        await self._pool.execute(_CALM, conversation, turn_id, mark)

    async def cancel(self, principal: Principal, conversation_id: str, turn_id: str) -> bool | None:
        """Leaves word for the turn's holder to stop it.

        Says whether that holder lives; None: the caller has no such turn that has a lease.
        """
        _, conversation = split_conversation_id(conversation_id)
        args = (conversation, principal.tenant_id, principal.person_id, turn_id)
        lives: bool | None = await self._pool.value(_CANCEL, *args)
        return lives

    async def cancel_waiting(self, principal: Principal, conversation_id: str, turn_id: str) -> bool:
        """Leaves word for every holder; False: it is not the caller's conversation."""
        _, conversation = split_conversation_id(conversation_id)
        args = (conversation, principal.tenant_id, principal.person_id, turn_id)
        return bool(await self._pool.value(_CANCEL_WAITING, *args))

    async def renew(self, holder_id: str, stopped: Sequence[str] = ()) -> Sequence[str]:
        """Keeps the holder's leases alive from now on for the time to live, by PostgreSQL's clock.

        Forgets the word left about `stopped`, and gives what is left of it.
        """
        cancelled = await self._pool.value(_BEAT, holder_id, self._rules.holder_ttl, stopped)
        return [str(turn) for turn in cancelled]

    async def release(self, holder_id: str) -> None:
        """Frees whatever the holder has."""
        await self._pool.execute(_RELEASE, holder_id)

    async def keep_key(self, turn_id: str) -> None:
        """Keeps the Idempotency-Key of a turn in a queue in use."""
        await self._pool.execute(_KEEP_KEY, turn_id, QUEUE_MARK)


def turn_of(row: asyncpg.Record) -> Turn:
    """A row of TURN_COLUMNS."""
    return Turn(
        id=str(row["id"]),
        seq=row["seq"],
        parent_id=str(row["parent_id"] or ""),
        question=row["question"],
        outcome=Outcome(row["outcome"]),
        answer=Answer(
            text=row["answer"],
            tier=row["tier"],
            model=row["model"],
            confidence=row["confidence"],
            finish_reason=row["finish_reason"],
            escalated=row["escalated"],
            prompt_tokens=row["prompt_tokens"],
            cached_tokens=row["cached_tokens"],
            output_tokens=row["output_tokens"],
            thought_tokens=row["thought_tokens"],
            cost_microusd=row["cost_microusd"],
        ),
        failure_reason=row["failure_reason"],
        failure_message=row["failure_message"],
        created_at=row["created_at"],
        question_digest=row["question_digest"],
        answer_digest=row["answer_digest"],
        previous_hash=row["previous_hash"],
        hash=row["hash"],
        fence=row["fence"],
        erased=row["erased"],
    )
