"""The stores of turns, conversations and asks, fake or real, with a clock that can be moved."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.session.asks import AskStore
from services.session.conversations import ConversationStore
from services.session.model import Answer, Begun, Ending, Outcome, Principal, Turn, Wanted
from services.session.store.asks import PostgresAsks
from services.session.store.conversations import PostgresConversations
from services.session.store.pool import Pool
from services.session.store.turns import PostgresTurns, TurnRules
from services.session.turns import TurnStore
from tests.contract.session.fake_store import FakeAsks, FakeConversations, FakeDatabase, FakeTurns, prepared

MAX_TURNS = 6
MAX_CONVERSATIONS = 5


def new_id() -> str:
    return str(uuid.uuid4())


def somebody() -> Principal:
    return Principal(new_id(), new_id())


@dataclass
class Stores:
    """All stores over one database, and somebody who uses them."""

    turns: TurnStore
    conversations: ConversationStore
    asks: AskStore
    pass_time: Callable[[float], Awaitable[None]]
    me: Principal = field(default_factory=somebody)
    holder: str = field(default_factory=new_id)

    async def conversation(self) -> str:
        made = await self.conversations.create(self.me, "")
        assert made is not None
        return made.id

    def wanted(self, conversation: str, **other: str | bytes | int) -> Wanted:
        fields: dict[str, object] = {"budget": 1000, "holder_id": self.holder, "turn_id": new_id(), **other}
        return Wanted(self.me, conversation, **fields)  # type: ignore[arg-type]

    async def begun(self, conversation: str, **other: str | bytes | int) -> Begun:
        """A turn that begins at once."""
        wanted = self.wanted(conversation, **other)
        await self.turns.renew(wanted.holder_id)
        attempt = await self.turns.begin(wanted, reached=False)
        assert attempt.begun is not None, attempt.status
        return attempt.begun

    def ending(self, conversation: str, begun: Begun, question: str = "Why?", answer: str = "Because.") -> Ending:
        return Ending(
            self.me, conversation, begun.turn_id, begun.fence, question, Outcome.ANSWER, Answer(text=answer, tier=1)
        )

    async def commit(self, ending: Ending) -> Turn | None:
        committed = await self.turns.commit(ending, prepared(ending))
        return committed.turn if committed else None

    async def turn(
        self, conversation: str, question: str = "Why?", answer: str = "Because.", **other: str | bytes | int
    ) -> Turn:
        """A whole turn."""
        begun = await self.begun(conversation, **other)
        turn = await self.commit(self.ending(conversation, begun, question, answer))
        assert turn is not None
        return turn

    async def failed(self, conversation: str, reason: str, **other: str | bytes | int) -> Turn:
        """A turn that ends without an answer."""
        begun = await self.begun(conversation, **other)
        ending = self.ending(conversation, begun, answer="")
        ending.outcome, ending.failure_reason = Outcome.FAILURE, reason
        turn = await self.commit(ending)
        assert turn is not None
        return turn


@asynccontextmanager
async def fake_stores() -> AsyncIterator[Stores]:
    """In memory."""
    passed = timedelta()

    async def pass_time(seconds: float) -> None:
        nonlocal passed
        passed += timedelta(seconds=seconds)

    database = FakeDatabase(
        lambda: datetime.now(UTC) + passed, max_turns=MAX_TURNS, max_conversations=MAX_CONVERSATIONS
    )
    yield Stores(FakeTurns(database), FakeConversations(database), FakeAsks(database), pass_time)


RULES = TurnRules(
    holder_ttl=timedelta(seconds=2),
    max_lease=timedelta(minutes=5),
    key_life=timedelta(hours=24),
    history_max_turns=200,
    max_turns=MAX_TURNS,
)


@asynccontextmanager
async def postgres_stores(url: str) -> AsyncIterator[Stores]:
    """In PostgreSQL; time passes by moving what is stored into the past."""
    pool = Pool(url, timeout=10)

    async def pass_time(seconds: float) -> None:
        by = timedelta(seconds=seconds)
        async with pool.transaction() as connection:
            await connection.execute("UPDATE holders SET expires_at = expires_at - $1::interval", by)
            await connection.execute(
                "UPDATE conversations SET leased_at = leased_at - $1::interval, "
                "queued_until = queued_until - $1::interval, deleted_at = deleted_at - $1::interval",
                by,
            )
            await connection.execute(
                "UPDATE idempotency_keys SET created_at = created_at - $1::interval, "
                "waiting_until = waiting_until - $1::interval",
                by,
            )

    try:
        conversations = PostgresConversations(pool, region="local", max_conversations=MAX_CONVERSATIONS)
        yield Stores(PostgresTurns(pool, RULES), conversations, PostgresAsks(pool, RULES), pass_time)
    finally:
        await pool.close()
