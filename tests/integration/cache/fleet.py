"""Replicas of the cache on one Valkey, and gateways that lead and follow as the flow does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from focus.cache.v1 import cache_pb2 as pb
from focus.cache.v1.cache_pb2_grpc import CacheServiceStub
from focus.chat.v1.chat_pb2 import Answer, FinishReason, Mode, Principal
from services.cache.app import app
from services.cache.settings import CacheSettings
from services.common.rpc.client import open_channel, stream, unary

if TYPE_CHECKING:
    from focus.cache.v1.cache_pb2_grpc import CacheServiceAsyncStub

    Stub = CacheServiceAsyncStub

TENANT = "7b0c0f9a-0000-4000-8000-000000000001"
NEIGHBOUR = "7b0c0f9a-0000-4000-8000-000000000002"
ME = Principal(tenant_id=TENANT, person_id="7b0c0f9a-0000-4000-8000-0000000000aa")
OTHER = Principal(tenant_id=NEIGHBOUR, person_id=ME.person_id)
SECRET = b"0123456789abcdef"
CALL_SECONDS = 30.0


def asking(text: str = "What is the capital of Brazil?") -> pb.Question:
    return pb.Question(text=text, mode=Mode.MODE_AUTO)


def answer(text: str = "Brasília.", **changes: Any) -> Answer:
    made = Answer(
        text=text,
        model="junior",
        confidence=0.9,
        finish_reason=FinishReason.FINISH_REASON_STOP,
        cost_microusd=12,
    )
    made.MergeFrom(Answer(**changes))
    return made


@asynccontextmanager
async def replicas(url: str, folder: Path, count: int = 1, **settings: Any) -> AsyncIterator[list[Stub]]:
    """Stubs of so many replicas, each with a channel of its own."""
    (folder / "hmac").write_bytes(SECRET)
    # A generous budget: what is asserted here is not how soon a miss comes on a busy machine.
    chosen = {"valkey_timeout_seconds": 1.0, "stop_grace_seconds": 0.1, **settings}
    async with AsyncExitStack() as stack:
        stubs: list[Stub] = []
        for _ in range(count):
            running = await stack.enter_async_context(app(CacheSettings(valkey_url=url, secrets_dir=folder, **chosen)))
            channel: grpc.aio.Channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{running.port}"))
            stubs.append(CacheServiceStub(channel))
        yield stubs


@dataclass
class Upstream:
    """A model that counts its calls and says something else each time."""

    words: int = 8
    pause: float = 0.02
    calls: int = 0
    begun: list[float] = field(default_factory=list)

    async def generate(self) -> AsyncIterator[str]:
        self.calls += 1
        self.begun.append(time.monotonic())
        number = self.calls
        for word in range(self.words):
            await asyncio.sleep(self.pause)
            yield f"word {word} of answer {number}; "


@dataclass
class Said:
    """What a caller was told."""

    how: str
    deltas: list[str]

    @property
    def text(self) -> str:
        return "".join(self.deltas)


@dataclass
class _Filling:
    events: list[str] = field(default_factory=list)
    followed: bool = False
    lost: bool = False
    published: int = 0
    renewed: float = field(default_factory=time.monotonic)


class Gateway:
    """A process that runs flows: it renews its leases in batches and publishes what is followed."""

    def __init__(self, stub: Stub, upstream: Upstream, single_flight: bool = True) -> None:
        self.stub = stub
        self._upstream = upstream
        self._single_flight = single_flight
        self._fillings: dict[bytes, _Filling] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.published = 0
        self._renewing = asyncio.create_task(self._renew_often())

    async def kill(self) -> None:
        """Ends everything without a word, as SIGKILL would."""
        for task in (self._renewing, *self._tasks):
            task.cancel()
        await asyncio.gather(self._renewing, *self._tasks, return_exceptions=True)

    def ask(self, question: pb.Question, **changes: Any) -> asyncio.Task[Said]:
        task = asyncio.create_task(self._ask(question, changes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _ask(self, question: pb.Question, changes: dict[str, Any]) -> Said:
        chosen = {"principal": ME, "single_flight": self._single_flight, **changes}
        request = pb.LookupRequest(question=question, **chosen)
        found = await unary(self.stub.Lookup, request, timeout=CALL_SECONDS)
        kind = found.WhichOneof("result")
        if kind == "hit":
            return Said("hit", [found.hit.answer.text])
        if kind == "following":
            return await self._follow(question, found.following.token)
        return await self._generate(question, found.miss.fill, "miss")

    async def _follow(self, question: pb.Question, token: bytes) -> Said:
        deltas: list[str] = []
        request = pb.FollowRequest(principal=ME, token=token)
        async for message in stream(self.stub.Follow, request, timeout=CALL_SECONDS):
            kind = message.WhichOneof("event")
            if kind == "piece":
                deltas.append(message.piece.delta)
            elif kind == "restarted":
                deltas.clear()
            elif kind == "finished":
                assert "".join(deltas) == message.finished.answer.text
                return Said("followed", deltas)
            elif kind == "lead":
                return await self._generate(question, message.lead.fill, "led")
            else:
                return Said(f"failed: {message.failed.message}", [])
        raise AssertionError("a stream to follow ended without a last message")

    async def _generate(self, question: pb.Question, fill: pb.Fill, how: str) -> Said:
        filling = _Filling()
        if fill.leased:
            self._fillings[fill.token] = filling
        try:
            async for delta in self._upstream.generate():
                filling.events.append(delta)
            while filling.followed and filling.published < len(filling.events):  # noqa: ASYNC110  all is published
                await asyncio.sleep(0.01)
        finally:
            self._fillings.pop(fill.token, None)
        request = pb.StoreRequest(
            principal=ME, question=question, answer=answer("".join(filling.events)), fill_token=fill.token
        )
        await unary(self.stub.Store, request, timeout=CALL_SECONDS)
        return Said(how, filling.events)

    async def _renew_often(self) -> None:
        while True:
            await asyncio.sleep(0.03)
            now = time.monotonic()
            due = {
                token: filling
                for token, filling in self._fillings.items()
                if now - filling.renewed > 0.4 or (filling.followed and filling.published < len(filling.events))
            }
            if not due:
                continue
            request = pb.RenewRequest()
            for token, filling in due.items():
                one = request.renewals.add(token=token, first=filling.published)
                if filling.followed:
                    one.events.extend(pb.FillEvent(delta=text) for text in filling.events[filling.published :])
                    self.published += len(one.events)
            reply = await unary(self.stub.Renew, request, timeout=CALL_SECONDS)
            for (token, filling), renewed in zip(due.items(), reply.renewed, strict=True):
                filling.renewed = time.monotonic()
                filling.followed = renewed.state == pb.LeaseState.LEASE_STATE_FOLLOWED
                filling.published = renewed.have
                if renewed.state == pb.LeaseState.LEASE_STATE_LOST:
                    self._fillings.pop(token, None)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def lookup(stub: Stub, question: pb.Question, **changes: Any) -> pb.LookupResponse:
    """As a caller that leads and follows, unless changed."""
    chosen = {"principal": ME, "question": question, "single_flight": True, **changes}
    return await unary(stub.Lookup, pb.LookupRequest(**chosen), timeout=CALL_SECONDS)


async def store(stub: Stub, question: pb.Question, made: Answer | None = None, **changes: Any) -> pb.StoreResponse:
    """Stores an answer, the usual one unless another is given."""
    chosen = {"principal": ME, "question": question, "answer": made or answer(), **changes}
    return await unary(stub.Store, pb.StoreRequest(**chosen), timeout=CALL_SECONDS)


def kind(response: pb.LookupResponse) -> str | None:
    """hit, miss or following."""
    return response.WhichOneof("result")
