"""Turn calls one by one, each to the session process of the test's choice, written down for the checker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from focus.chat.v1 import chat_pb2
from focus.session.v1 import turn_pb2
from services.common.errors import FocusError
from services.common.rpc.client import open_channel
from services.flow.clients import GrpcTurns
from tests.chaos.turns.client import MARK
from tests.chaos.turns.cluster import Cluster
from tests.chaos.turns.history import Recorder

_BEAT_SECONDS = 0.5
_CALL_SECONDS = 5.0
_WAIT_SECONDS = 60.0


@dataclass(slots=True)
class Caller:
    """A holder that talks to one session process. `alive` False: it sends no heartbeat any more."""

    turns: GrpcTurns
    principal: chat_pb2.Principal
    recorder: Recorder
    holder: str = field(default_factory=lambda: str(uuid.uuid4()))
    alive: bool = True

    async def begin(self, conversation: str, turn: str) -> turn_pb2.BeginTurnResponse:
        """Takes the lease or a place."""
        self.recorder.record("invoke", conversation, turn)
        request = turn_pb2.BeginTurnRequest(
            principal=self.principal, conversation_id=conversation, holder_id=self.holder, turn_id=turn
        )
        response = await self.turns.begin(request, timeout=_CALL_SECONDS)
        if response.WhichOneof("result") == "begun":
            self._note(conversation, response.begun)
        return response

    async def lease(self, conversation: str, turn: str) -> turn_pb2.BegunTurn:
        """Takes the lease, which must be free."""
        response = await self.begin(conversation, turn)
        assert response.WhichOneof("result") == "begun", response
        return response.begun

    async def place(self, conversation: str, turn: str) -> str:
        """Takes a place in the queue, which there must be; gives its ticket."""
        response = await self.begin(conversation, turn)
        assert response.WhichOneof("result") == "queued", response
        return response.queued.ticket

    async def reach(
        self, conversation: str, ticket: str, told: Callable[[int], object] = lambda _: None
    ) -> turn_pb2.BegunTurn:
        """Waits in the queue until it is one's turn; `told` gets every position."""
        request = turn_pb2.AwaitTurnRequest(principal=self.principal, conversation_id=conversation, ticket=ticket)
        async with aclosing(self.turns.wait(request, timeout=_WAIT_SECONDS)) as steps:
            async for step in steps:
                if step.WhichOneof("event") == "begun":
                    self._note(conversation, step.begun)
                    return step.begun
                told(step.position)
        raise AssertionError("the queue ended without a turn")

    async def commit(self, conversation: str, turn: str, fence: int) -> turn_pb2.Turn:
        """Stores the turn."""
        answer = chat_pb2.Answer(text="Said.", finish_reason=chat_pb2.FINISH_REASON_STOP)
        request = turn_pb2.CommitTurnRequest(
            principal=self.principal,
            conversation_id=conversation,
            holder_id=self.holder,
            turn_id=turn,
            fence=fence,
            question=MARK + turn,
            outcome=turn_pb2.OUTCOME_ANSWER,
            answer=answer,
        )
        stored = (await self.turns.commit(request, timeout=_CALL_SECONDS)).turn
        self.recorder.record("ack", conversation, stored.turn_id, fence=stored.fence, seq=stored.seq)
        return stored

    async def renew(self) -> None:
        """One heartbeat."""
        await self.turns.renew(turn_pb2.RenewHolderRequest(holder_id=self.holder), timeout=_CALL_SECONDS)

    async def die(self) -> None:
        """What is known of it runs out at once, as two seconds after its last heartbeat."""
        self.alive = False
        await self.turns.release(turn_pb2.ReleaseHolderRequest(holder_id=self.holder), timeout=_CALL_SECONDS)

    def _note(self, conversation: str, begun: turn_pb2.BegunTurn) -> None:
        questions = tuple(m.parts[0].text for m in begun.history if m.role == chat_pb2.ROLE_USER)
        self.recorder.record("begun", conversation, begun.turn_id, fence=begun.fence, seq=begun.seq, history=questions)


@asynccontextmanager
async def callers(cluster: Cluster, number: int) -> AsyncIterator[list[Caller]]:
    """So many holders, spread over the session processes, each with its heartbeat."""
    channels = [open_channel(service.address) for service in cluster.sessions]
    recorder = Recorder(Path(cluster.history) / f"direct-{uuid.uuid4().hex[:8]}.jsonl", "direct")
    made = [Caller(GrpcTurns(channels[n % len(channels)]), cluster.principal, recorder) for n in range(number)]
    beating = asyncio.create_task(_beat(made))
    try:
        await asyncio.gather(*(one.renew() for one in made))
        yield made
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await _close(channels)
        recorder.close()


def new_turn() -> str:
    """An id."""
    return str(uuid.uuid4())


async def _beat(made: list[Caller]) -> None:
    async def quietly(beat: Awaitable[None]) -> None:
        with suppress(FocusError):
            await beat

    while True:
        await asyncio.sleep(_BEAT_SECONDS)
        await asyncio.gather(*(quietly(one.renew()) for one in made if one.alive))


async def _close(channels: list[grpc.aio.Channel]) -> None:
    await asyncio.gather(*(channel.close() for channel in channels))
