"""The other services as the flow sees them: three narrow ports, and their gRPC form.

Requests and responses are the protobuf messages themselves: turning them into
something else would cost more than the calls' bookkeeping. Failures are FocusErrors.
Timeouts are in seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Protocol

from focus.cache.v1 import cache_pb2, cache_pb2_grpc
from focus.llm.v1 import llm_pb2, llm_pb2_grpc
from focus.session.v1 import turn_pb2, turn_pb2_grpc
from services.common.rpc import client
from services.flow.fills import Fills
from services.flow.joint import Joints
from services.flow.refreshing import Refreshes

if TYPE_CHECKING:
    import grpc


class Turns(Protocol):
    """The order of a conversation's turns, what was said, and which Idempotency-Keys are in use."""

    async def begin(self, request: turn_pb2.BeginTurnRequest, *, timeout: float) -> turn_pb2.BeginTurnResponse: ...

    def wait(
        self, request: turn_pb2.AwaitTurnRequest, *, timeout: float
    ) -> AsyncGenerator[turn_pb2.AwaitTurnResponse, None]: ...

    async def commit(self, request: turn_pb2.CommitTurnRequest, *, timeout: float) -> turn_pb2.CommitTurnResponse: ...

    async def renew(self, request: turn_pb2.RenewHolderRequest, *, timeout: float) -> turn_pb2.RenewHolderResponse: ...

    async def release(
        self, request: turn_pb2.ReleaseHolderRequest, *, timeout: float
    ) -> turn_pb2.ReleaseHolderResponse: ...

    async def abandon(
        self, request: turn_pb2.AbandonTurnRequest, *, timeout: float
    ) -> turn_pb2.AbandonTurnResponse: ...

    async def begin_ask(self, request: turn_pb2.BeginAskRequest, *, timeout: float) -> turn_pb2.BeginAskResponse: ...

    async def commit_ask(self, request: turn_pb2.CommitAskRequest, *, timeout: float) -> turn_pb2.CommitAskResponse: ...

    async def abandon_ask(
        self, request: turn_pb2.AbandonAskRequest, *, timeout: float
    ) -> turn_pb2.AbandonAskResponse: ...


class Answers(Protocol):
    """Answers that were given before, and those that are just being generated."""

    async def look_up(self, request: cache_pb2.LookupRequest, *, timeout: float) -> cache_pb2.LookupResponse: ...

    async def store(self, request: cache_pb2.StoreRequest, *, timeout: float) -> cache_pb2.StoreResponse: ...

    async def renew(self, request: cache_pb2.RenewRequest, *, timeout: float) -> cache_pb2.RenewResponse: ...

    async def release(self, request: cache_pb2.ReleaseRequest, *, timeout: float) -> cache_pb2.ReleaseResponse: ...

    def follow(
        self, request: cache_pb2.FollowRequest, *, timeout: float
    ) -> AsyncGenerator[cache_pb2.FollowResponse, None]: ...


class Models(Protocol):
    """Who answers."""

    async def complete(self, request: llm_pb2.CompleteRequest, *, timeout: float) -> llm_pb2.CompleteResponse: ...

    def generate(
        self, request: llm_pb2.GenerateRequest, *, timeout: float
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]: ...


class Clients:
    """Everything that a flow calls, and what the flows of one process share of it."""

    def __init__(self, turns: Turns, answers: Answers, models: Models) -> None:
        self.turns = turns
        self.answers = answers
        self.models = models
        self.fills = Fills(answers)
        self.refreshes = Refreshes(answers, models, self.fills)
        self.joints = Joints()

    async def close(self) -> None:
        """Ends what nobody waits for, and gives leases back that the cache has given."""
        await self.refreshes.close()
        await self.fills.close()


class GrpcTurns:
    """The session service's TurnService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = turn_pb2_grpc.TurnServiceStub(channel)

    async def begin(self, request: turn_pb2.BeginTurnRequest, *, timeout: float) -> turn_pb2.BeginTurnResponse:
        return await client.unary(self._stub.BeginTurn, request, timeout=timeout)

    def wait(
        self, request: turn_pb2.AwaitTurnRequest, *, timeout: float
    ) -> AsyncGenerator[turn_pb2.AwaitTurnResponse, None]:
        return client.stream(self._stub.AwaitTurn, request, timeout=timeout)

    async def commit(self, request: turn_pb2.CommitTurnRequest, *, timeout: float) -> turn_pb2.CommitTurnResponse:
        return await client.unary(self._stub.CommitTurn, request, timeout=timeout)

    async def renew(self, request: turn_pb2.RenewHolderRequest, *, timeout: float) -> turn_pb2.RenewHolderResponse:
        return await client.unary(self._stub.RenewHolder, request, timeout=timeout)

    async def release(
        self, request: turn_pb2.ReleaseHolderRequest, *, timeout: float
    ) -> turn_pb2.ReleaseHolderResponse:
        return await client.unary(self._stub.ReleaseHolder, request, timeout=timeout)

    async def abandon(self, request: turn_pb2.AbandonTurnRequest, *, timeout: float) -> turn_pb2.AbandonTurnResponse:
        return await client.unary(self._stub.AbandonTurn, request, timeout=timeout)

    async def begin_ask(self, request: turn_pb2.BeginAskRequest, *, timeout: float) -> turn_pb2.BeginAskResponse:
        return await client.unary(self._stub.BeginAsk, request, timeout=timeout)

    async def commit_ask(self, request: turn_pb2.CommitAskRequest, *, timeout: float) -> turn_pb2.CommitAskResponse:
        return await client.unary(self._stub.CommitAsk, request, timeout=timeout)

    async def abandon_ask(self, request: turn_pb2.AbandonAskRequest, *, timeout: float) -> turn_pb2.AbandonAskResponse:
        return await client.unary(self._stub.AbandonAsk, request, timeout=timeout)


class GrpcAnswers:
    """The cache service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = cache_pb2_grpc.CacheServiceStub(channel)

    async def look_up(self, request: cache_pb2.LookupRequest, *, timeout: float) -> cache_pb2.LookupResponse:
        return await client.unary(self._stub.Lookup, request, timeout=timeout)

    async def store(self, request: cache_pb2.StoreRequest, *, timeout: float) -> cache_pb2.StoreResponse:
        return await client.unary(self._stub.Store, request, timeout=timeout)

    async def renew(self, request: cache_pb2.RenewRequest, *, timeout: float) -> cache_pb2.RenewResponse:
        return await client.unary(self._stub.Renew, request, timeout=timeout)

    async def release(self, request: cache_pb2.ReleaseRequest, *, timeout: float) -> cache_pb2.ReleaseResponse:
        return await client.unary(self._stub.Release, request, timeout=timeout)

    def follow(
        self, request: cache_pb2.FollowRequest, *, timeout: float
    ) -> AsyncGenerator[cache_pb2.FollowResponse, None]:
        return client.stream(self._stub.Follow, request, timeout=timeout)


class GrpcModels:
    """The llm service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = llm_pb2_grpc.LlmServiceStub(channel)

    async def complete(self, request: llm_pb2.CompleteRequest, *, timeout: float) -> llm_pb2.CompleteResponse:
        return await client.unary(self._stub.Complete, request, timeout=timeout)

    def generate(
        self, request: llm_pb2.GenerateRequest, *, timeout: float
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]:
        return client.stream(self._stub.Generate, request, timeout=timeout)
