"""A holder of leases in a process of its own: the product's flow, with a model that is no more than a pause.

    python -m tests.chaos.turns.client work.json

It asks until SIGTERM, then ends what it has begun and leaves in order. What it saw it
writes to `<history>/<name>.jsonl`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import sys
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from focus.cache.v1 import cache_pb2
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2
from focus.session.v1 import turn_pb2
from services.common import context
from services.common.errors import FocusError
from services.common.rpc.client import open_channel
from services.flow.clients import Clients, GrpcTurns
from services.flow.deadline import Deadline
from services.flow.flight import Course
from services.flow.holder import Holder
from services.flow.question import Question, Repeatable
from services.flow.turn import TurnRequest, run_turn
from tests.chaos.turns.history import Recorder

# Every question begins so, and only a commit carries a question to the session service: the
# proxy between them recognises commits by it.
MARK = "Question of "
_TURN_SECONDS = 20.0
# A key in common with whoever else asks the same conversation in the same half second.
_KEY_SECONDS = 0.5
_BRIEF_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Work:
    """What a client is to do. `hold_seconds` is the longest a model takes, `keyed` the share of keyed turns."""

    name: str
    # A gRPC target of all session processes.
    target: str
    tenant: str
    person: str
    conversations: list[str]
    history: str
    at_once: int = 4
    hold_seconds: float = 0.03
    keyed: float = 0.3


class _Turns(GrpcTurns):
    """The real client; writes down what each lease showed."""

    def __init__(self, target: str, recorder: Recorder) -> None:
        self._channel = open_channel(target)
        super().__init__(self._channel)
        self._recorder = recorder

    async def begin(self, request: turn_pb2.BeginTurnRequest, *, timeout: float) -> turn_pb2.BeginTurnResponse:
        response = await super().begin(request, timeout=timeout)
        if response.WhichOneof("result") == "begun":
            self._begun(request.conversation_id, response.begun)
        return response

    async def wait(
        self, request: turn_pb2.AwaitTurnRequest, *, timeout: float
    ) -> AsyncGenerator[turn_pb2.AwaitTurnResponse, None]:
        async with aclosing(super().wait(request, timeout=timeout)) as steps:
            async for step in steps:
                if step.WhichOneof("event") == "begun":
                    self._begun(request.conversation_id, step.begun)
                yield step

    async def close(self) -> None:
        await self._channel.close()

    def _begun(self, conversation: str, begun: turn_pb2.BegunTurn) -> None:
        questions = tuple(m.parts[0].text for m in begun.history if m.role == chat_pb2.ROLE_USER)
        self._recorder.record(
            "begun",
            conversation,
            begun.turn_id,
            fence=begun.fence,
            seq=begun.seq,
            history=questions,
            cut=begun.history_cut,
        )


class _Model:
    """Takes a random while and says how much it was shown."""

    def __init__(self, hold_seconds: float) -> None:
        self._hold_seconds = hold_seconds

    async def complete(self, request: llm_pb2.CompleteRequest, *, timeout: float) -> llm_pb2.CompleteResponse:
        await asyncio.sleep(random.uniform(0, self._hold_seconds))
        text = f"Said {len(request.prompt.messages)}."
        return llm_pb2.CompleteResponse(
            answer=chat_pb2.Answer(text=text, finish_reason=chat_pb2.FINISH_REASON_STOP, model="pause")
        )

    async def generate(
        self, request: llm_pb2.GenerateRequest, *, timeout: float
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]:
        answer = (await self.complete(llm_pb2.CompleteRequest(prompt=request.prompt), timeout=timeout)).answer
        yield llm_pb2.GenerateResponse(finished=llm_pb2.GenerateResponse.Finished(answer=answer))


class _NoAnswers:
    """A cache that holds nothing."""

    async def look_up(self, request: cache_pb2.LookupRequest, *, timeout: float) -> cache_pb2.LookupResponse:
        return cache_pb2.LookupResponse(miss=cache_pb2.LookupResponse.Miss())

    async def store(self, request: cache_pb2.StoreRequest, *, timeout: float) -> cache_pb2.StoreResponse:
        return cache_pb2.StoreResponse()

    async def renew(self, request: cache_pb2.RenewRequest, *, timeout: float) -> cache_pb2.RenewResponse:
        return cache_pb2.RenewResponse()

    async def release(self, request: cache_pb2.ReleaseRequest, *, timeout: float) -> cache_pb2.ReleaseResponse:
        return cache_pb2.ReleaseResponse()

    async def follow(
        self, request: cache_pb2.FollowRequest, *, timeout: float
    ) -> AsyncGenerator[cache_pb2.FollowResponse, None]:
        nothing: tuple[cache_pb2.FollowResponse, ...] = ()
        for response in nothing:
            yield response


class Client:
    """Asks random conversations, several at once."""

    def __init__(self, work: Work, recorder: Recorder) -> None:
        self._work = work
        self._recorder = recorder
        self._turns = _Turns(work.target, recorder)
        self._clients = Clients(self._turns, _NoAnswers(), _Model(work.hold_seconds))
        self._holder = Holder(self._turns)
        self._principal = chat_pb2.Principal(tenant_id=work.tenant, person_id=work.person)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Begins nothing any more."""
        self._stop.set()

    async def run(self) -> None:
        """Works until `stop`."""
        async with self._holder.beating():
            await asyncio.gather(*(self._asker() for _ in range(self._work.at_once)))
        await self._turns.close()

    async def _asker(self) -> None:
        while not self._stop.is_set():
            conversation = random.choice(self._work.conversations)
            if random.random() >= self._work.keyed:
                await self.ask(conversation)
                continue
            # The keyed ones share few conversations, so that two clients meet in a key.
            conversation = random.choice(self._work.conversations[:8])
            key = f"{conversation}/{int(time.monotonic() / _KEY_SECONDS)}"
            twice = random.random() < 0.2
            outcomes = await asyncio.gather(*(self.ask(conversation, key) for _ in range(1 + twice)))
            # As a program does that got no answer: the same again, once.
            if not any(outcomes) and not self._stop.is_set():
                await self.ask(conversation, key)

    async def ask(self, conversation: str, key: str = "") -> bool:
        """One turn; False if it is not known to be stored."""
        turn = str(uuid.uuid4())
        text = MARK + (key or turn)
        request = TurnRequest(
            principal=self._principal,
            conversation_id=conversation,
            turn_id=turn,
            question=Question(text),
            repeatable=Repeatable(key, hashlib.sha256(text.encode()).digest()) if key else None,
        )
        self._recorder.record("invoke", conversation, turn, key=key)
        course = Course(streaming=False, durable=True)
        context.bind()
        try:
            committed = await run_turn(self._clients, self._holder, request, course, Deadline.after(_TURN_SECONDS))
        except FocusError as err:
            lost = err.reason == ErrorReason.ERROR_REASON_LEASE_LOST
            self._recorder.record("lost" if lost else "unknown", conversation, turn)
            await asyncio.sleep(_BRIEF_SECONDS)
            return False
        stored = committed.turn
        self._recorder.record("ack", conversation, stored.turn_id, fence=stored.fence, seq=stored.seq)
        return True


def write(work: Work, path: Path) -> None:
    """Leaves the work for a client to read."""
    path.write_text(json.dumps(asdict(work)))


async def _main(work: Work) -> None:
    recorder = Recorder(Path(work.history) / f"{work.name}.jsonl", work.name)
    client = Client(work, recorder)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop)
    await client.run()
    recorder.close()


if __name__ == "__main__":
    uvloop.run(_main(Work(**json.loads(Path(sys.argv[1]).read_text()))))
