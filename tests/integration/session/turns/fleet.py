"""Session processes as their callers see them: real servers over gRPC, PostgreSQL and Valkey behind them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus.chat.v1 import chat_pb2
from focus.session.v1 import conversation_pb2, conversation_pb2_grpc, turn_pb2, turn_pb2_grpc
from services.common.errors import FocusError
from services.common.rpc import client
from services.session import signing_keys
from services.session.app import app
from services.session.settings import SessionSettings

if TYPE_CHECKING:
    from focus.session.v1.conversation_pb2_grpc import ConversationServiceAsyncStub
    from focus.session.v1.turn_pb2_grpc import TurnServiceAsyncStub

DIGEST = b"d" * 32
Reached = turn_pb2.BegunTurn | turn_pb2.Turn


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class Caller:
    """A process that runs flows: one principal, one holder, connected to one session process."""

    turns: TurnServiceAsyncStub
    conversations: ConversationServiceAsyncStub
    me: chat_pb2.Principal
    holder: str = field(default_factory=new_id)
    timeout: float = 20.0

    async def conversation(self) -> str:
        request = conversation_pb2.CreateConversationRequest(principal=self.me)
        made = await client.unary(self.conversations.CreateConversation, request, timeout=self.timeout)
        return made.conversation.conversation_id

    async def get(self, conversation: str) -> conversation_pb2.GetConversationResponse:
        request = conversation_pb2.GetConversationRequest(
            principal=self.me, conversation_id=conversation, page_size=200
        )
        return await client.unary(self.conversations.GetConversation, request, timeout=self.timeout)

    async def renew(self) -> None:
        request = turn_pb2.RenewHolderRequest(holder_id=self.holder)
        await client.unary(self.turns.RenewHolder, request, timeout=self.timeout)

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """The holder lives for as long as the block runs."""

        async def beat() -> None:
            while True:
                with suppress(FocusError):
                    await self.renew()
                await asyncio.sleep(0.6)

        await self.renew()
        task = asyncio.create_task(beat())
        try:
            yield
        finally:
            task.cancel()

    async def begin(
        self, conversation: str, turn: str = "", *, key: str = "", digest: bytes = DIGEST, **other: Any
    ) -> turn_pb2.BeginTurnResponse:
        request = turn_pb2.BeginTurnRequest(
            principal=self.me,
            conversation_id=conversation,
            holder_id=self.holder,
            turn_id=turn or new_id(),
            idempotency_key=key,
            request_digest=digest if key else b"",
            **other,
        )
        return await client.unary(self.turns.BeginTurn, request, timeout=self.timeout)

    async def begun(self, conversation: str, turn: str = "", **other: Any) -> turn_pb2.BegunTurn:
        """A turn that begins at once."""
        response = await self.begin(conversation, turn, **other)
        assert response.WhichOneof("result") == "begun", response
        return response.begun

    async def wait(
        self, conversation: str, ticket: str, seen: Callable[[int], object] | None = None, timeout: float = 60.0
    ) -> Reached:
        """Waits for a turn that was queued; `seen` hears the positions."""
        request = turn_pb2.AwaitTurnRequest(principal=self.me, conversation_id=conversation, ticket=ticket)
        async with aclosing(client.stream(self.turns.AwaitTurn, request, timeout=timeout)) as events:
            async for event in events:
                match event.WhichOneof("event"):
                    case "begun":
                        return event.begun
                    case "replayed":
                        return event.replayed
                    case _:
                        if seen:
                            seen(event.position)
        raise AssertionError("the stream ended without a turn")

    async def reach(self, conversation: str, turn: str = "", **other: Any) -> turn_pb2.BegunTurn:
        """Begins, and waits if it has to."""
        response = await self.begin(conversation, turn, **other)
        if response.WhichOneof("result") == "queued":
            reached = await self.wait(conversation, response.queued.ticket)
            assert isinstance(reached, turn_pb2.BegunTurn)
            return reached
        assert response.WhichOneof("result") == "begun", response
        return response.begun

    async def commit(
        self, conversation: str, begun: turn_pb2.BegunTurn, question: str = "Why?", **other: Any
    ) -> turn_pb2.Turn:
        fields: dict[str, Any] = {
            "outcome": turn_pb2.OUTCOME_ANSWER,
            "answer": chat_pb2.Answer(text=f"Because {question}", tier=chat_pb2.TIER_JUNIOR, model="scripted"),
            **other,
        }
        request = turn_pb2.CommitTurnRequest(
            principal=self.me,
            conversation_id=conversation,
            holder_id=self.holder,
            turn_id=begun.turn_id,
            fence=begun.fence,
            question=question,
            **fields,
        )
        return (await client.unary(self.turns.CommitTurn, request, timeout=self.timeout)).turn

    async def turn(self, conversation: str, question: str = "Why?", **other: Any) -> turn_pb2.Turn:
        """A whole turn."""
        return await self.commit(conversation, await self.reach(conversation, **other), question)

    async def abandon(self, conversation: str, turn: str) -> None:
        request = turn_pb2.AbandonTurnRequest(
            principal=self.me, conversation_id=conversation, holder_id=self.holder, turn_id=turn
        )
        await client.unary(self.turns.AbandonTurn, request, timeout=self.timeout)


@dataclass
class Fleet:
    """Several session processes, and somebody who calls them."""

    targets: list[str]
    callers: list[Caller]

    @property
    def caller(self) -> Caller:
        return self.callers[0]


def principal() -> chat_pb2.Principal:
    return chat_pb2.Principal(tenant_id=new_id(), person_id=new_id())


def settings(folder: Path, database_url: str, valkey_url: str, **other: Any) -> SessionSettings:
    """What a session process is given; the store may take as long as this busy machine lets it."""
    signing_keys.provide(folder / "signing", folder / "jwks", "local")
    values: dict[str, Any] = {
        "database_timeout_seconds": 10.0,
        "valkey_timeout_seconds": 5.0,
        "stop_grace_seconds": 1.0,
        "index_seconds": 0.05,
        **other,
    }
    return SessionSettings(
        database_url=database_url, valkey_url=valkey_url, signing_keys_dir=folder / "signing", **values
    )


@asynccontextmanager
async def fleet(chosen: SessionSettings, size: int = 1, *, holder: str = "") -> AsyncIterator[Fleet]:
    """`size` session processes (within this one), and a caller of each, all of one principal."""
    async with AsyncExitStack() as stack:
        targets, callers, me = [], [], principal()
        for _ in range(size):
            running = await stack.enter_async_context(app(chosen))
            targets.append(f"127.0.0.1:{running.port}")
            callers.append(await stack.enter_async_context(calling(targets[-1], me, holder or new_id())))
        yield Fleet(targets, callers)


@asynccontextmanager
async def calling(target: str, me: chat_pb2.Principal, holder: str) -> AsyncIterator[Caller]:
    """A caller of one session process, whose holder lives."""
    async with client.open_channel(target) as channel:
        turns = turn_pb2_grpc.TurnServiceStub(channel)
        conversations = conversation_pb2_grpc.ConversationServiceStub(channel)
        caller = Caller(turns, conversations, me, holder)
        async with caller.beating():
            yield caller


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Results and errors of what runs at once."""
    return await asyncio.gather(*work, return_exceptions=True)


def reasons(results: list[Any]) -> list[str]:
    """The reason of every error, "" for what succeeded."""
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, FocusError):
            raise result
    return [result.reason_name if isinstance(result, FocusError) else "" for result in results]
