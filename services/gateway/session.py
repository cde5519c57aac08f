"""The session service, as the routes call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import grpc

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import auth_pb2_grpc, conversation_pb2_grpc, turn_pb2_grpc, usage_pb2_grpc
from services.common.errors import DeadlineExceeded, Unavailable
from services.common.rpc import client

if TYPE_CHECKING:
    from focus.session.v1.auth_pb2_grpc import AuthServiceAsyncStub
    from focus.session.v1.conversation_pb2_grpc import ConversationServiceAsyncStub
    from focus.session.v1.turn_pb2_grpc import TurnServiceAsyncStub
    from focus.session.v1.usage_pb2_grpc import UsageServiceAsyncStub

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Session:
    """The stubs, and one way to call them."""

    auth: AuthServiceAsyncStub
    conversations: ConversationServiceAsyncStub
    turns: TurnServiceAsyncStub
    usage: UsageServiceAsyncStub

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float) -> None:
        self.auth = auth_pb2_grpc.AuthServiceStub(channel)
        self.conversations = conversation_pb2_grpc.ConversationServiceStub(channel)
        self.turns = turn_pb2_grpc.TurnServiceStub(channel)
        self.usage = usage_pb2_grpc.UsageServiceStub(channel)
        self.timeout = timeout

    async def call(self, method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT) -> ResponseT:
        """One call. Raises what the service raised; a store that does not answer in time is away."""
        try:
            return await client.unary(method, request, timeout=self.timeout)
        except DeadlineExceeded:
            raise Unavailable(
                "The store does not answer right now; try again in a moment.",
                ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
                retry_after=1.0,
            ) from None
