"""The bare parts of a turn: the house's gRPC server with methods that do next to nothing.

    FOCUS_BARE_GRPC_LISTEN=host:port FOCUS_BARE_DATABASE_URL=... python -m bench.bare

RenewHolder answers at once; ReleaseHolder answers after one trivial statement on an
asyncpg connection that nothing is wrapped around.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
from pydantic_settings import SettingsConfigDict

from focus.session.v1 import turn_pb2
from services.common import lifecycle, settings
from services.common.rpc.server import Running, serving
from services.common.settings import GrpcSettings

_SERVICE = "focus.session.v1.TurnService"
_CONNECTIONS = 10
_STATEMENT = "SELECT $1::bigint"


class BareSettings(GrpcSettings):
    """As the session service's, as far as it goes."""

    model_config = SettingsConfigDict(env_prefix="FOCUS_BARE_")

    database_url: str


class _Bare:
    """Two methods of TurnService; the others are not called."""

    def __init__(self, idle: list[Any]) -> None:
        self._idle = idle

    async def renew(self, request: turn_pb2.RenewHolderRequest, context: Any) -> turn_pb2.RenewHolderResponse:
        return turn_pb2.RenewHolderResponse()

    async def release(self, request: turn_pb2.ReleaseHolderRequest, context: Any) -> turn_pb2.ReleaseHolderResponse:
        connection = self._idle.pop()
        await connection.fetchrow(_STATEMENT, 1)
        self._idle.append(connection)
        return turn_pb2.ReleaseHolderResponse()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers both."""
        renew = grpc.unary_unary_rpc_method_handler(
            self.renew,
            request_deserializer=turn_pb2.RenewHolderRequest.FromString,
            response_serializer=turn_pb2.RenewHolderResponse.SerializeToString,
        )
        release = grpc.unary_unary_rpc_method_handler(
            self.release,
            request_deserializer=turn_pb2.ReleaseHolderRequest.FromString,
            response_serializer=turn_pb2.ReleaseHolderResponse.SerializeToString,
        )
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"RenewHolder": renew, "ReleaseHolder": release}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, methods)])


@asynccontextmanager
async def app(chosen: BareSettings) -> AsyncIterator[Running]:
    """The server, with its connections."""
    idle = [await asyncpg.connect(chosen.database_url) for _ in range(_CONNECTIONS)]
    try:
        async with serving(chosen, _Bare(idle).add_to, (_SERVICE,)) as running:
            yield running
    finally:
        for connection in idle:
            await connection.close(timeout=1)


if __name__ == "__main__":
    _chosen = settings.load(BareSettings)
    lifecycle.run("bare", _chosen, lambda: app(_chosen))
