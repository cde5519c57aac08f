"""Wires the gateway: channels, flow, routes, server; closes them in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import grpc
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from services.common import logs
from services.common.metrics import split_address
from services.common.rpc.client import open_channel
from services.flow.clients import Clients, GrpcAnswers, GrpcModels, GrpcTurns
from services.flow.holder import Holder
from services.gateway import openapi
from services.gateway.answers import Flights, Timing
from services.gateway.assets import asset_routes
from services.gateway.bodies import Bodies
from services.gateway.edge import Edge
from services.gateway.key_exchange import KeyExchange
from services.gateway.limits import Admission
from services.gateway.principals import Principals
from services.gateway.protocol import with_limits
from services.gateway.routes.asks import Lengths, add_ask_routes
from services.gateway.routes.auth import add_auth_routes
from services.gateway.routes.conversations import add_conversation_routes
from services.gateway.routes.entrance import Entrance
from services.gateway.routes.feedback import Thumbs, add_feedback_routes
from services.gateway.routes.newborn import Newborn
from services.gateway.routes.shared import add_shared_routes
from services.gateway.routes.system import Readiness, add_system_routes
from services.gateway.routes.turns import add_turn_routes
from services.gateway.routes.usage import add_usage_routes
from services.gateway.routing import DirectRoute
from services.gateway.session import Session
from services.gateway.settings import GatewaySettings
from services.gateway.tokens import TokenVerifier

log = logs.get(__name__)

_ABOUT = (
    "Answers questions: a fast cheap model first, a strong one only where it pays. Errors are RFC 9457 problems "
    "with a stable `reason`; send an access token or an API key as `Authorization: Bearer …`."
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is listening."""

    port: int


class _Server(uvicorn.Server):
    """Leaves signals to the process (`services.common.lifecycle`)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _App(FastAPI):
    """FastAPI's router and OpenAPI inside our edge, in place of its stack of middlewares.

    That stack costs twice what a constant route does; `Edge` does its work: exceptions, and limits.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        super().__init__(
            title="Focus AI",
            version="1",
            description=_ABOUT,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        self.router.route_class = DirectRoute
        self._settings = settings

    def build_middleware_stack(self) -> ASGIApp:
        return Edge(
            self.router,
            Admission(self._settings.max_concurrent_requests),
            allowed_hosts=self._settings.allowed_hosts,
            access_log=self._settings.access_log,
        )

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi.document(self)
        return self.openapi_schema


@asynccontextmanager
async def gateway(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """The gateway between its start and its ordered end.

    At the end: not ready, drain, no new connections, running answers end, flows that
    must be finished are, leases are freed, channels close.
    """
    async with AsyncExitStack() as stack:
        channels = {
            target: await stack.enter_async_context(_channel(target))
            for target in {settings.session_target, settings.cache_target, settings.llm_target}
        }
        session = Session(channels[settings.session_target], timeout=settings.call_seconds)
        clients = Clients(
            GrpcTurns(channels[settings.session_target]),
            GrpcAnswers(channels[settings.cache_target]),
            GrpcModels(channels[settings.llm_target]),
        )
        stack.push_async_callback(clients.close)
        thumbs = Thumbs(channels[settings.cache_target], timeout=settings.call_seconds)
        verifier = TokenVerifier(settings.jwks_dir, settings.issuer, settings.audience)
        await stack.enter_async_context(verifier.watching())
        principals = Principals(verifier, KeyExchange(session.auth))
        await stack.enter_async_context(principals.running())
        holder = Holder(clients.turns)
        flights = Flights(clients, holder, Timing(settings.request_seconds, settings.heartbeat_seconds))
        await stack.enter_async_context(holder.beating(flights.stop))
        stack.push_async_callback(flights.landed, settings.stop_grace_seconds)
        readiness = Readiness()
        entrance = Entrance(principals, Bodies(max_bytes=settings.max_body_bytes, max_depth=settings.max_body_depth))
        app = _App(settings)
        _add_routes(app, settings, entrance, session, thumbs, flights, readiness, verifier)
        port = await stack.enter_async_context(_serving(settings, app))
        readiness.ready = True
        log.info("listening", address=settings.listen, port=port)
        try:
            yield Gateway(port)
        finally:
            readiness.ready = False
            if settings.drain_seconds:
                await asyncio.sleep(settings.drain_seconds)


def _add_routes(
    app: FastAPI,
    settings: GatewaySettings,
    entrance: Entrance,
    session: Session,
    thumbs: Thumbs,
    flights: Flights,
    readiness: Readiness,
    verifier: TokenVerifier,
) -> None:
    """The busiest first: routes are tried in this order."""
    lengths = Lengths(question=settings.max_question_chars, system=settings.max_system_chars)
    newborn = Newborn()
    add_ask_routes(app.router, entrance, flights, lengths, learn=settings.learn_questions)
    add_turn_routes(app.router, entrance, flights, session, lengths, newborn)
    add_conversation_routes(app.router, entrance, session, newborn)
    add_feedback_routes(app.router, entrance, thumbs)
    add_auth_routes(app.router, entrance, session)
    add_shared_routes(app.router, entrance, session)
    add_usage_routes(app.router, entrance, session)
    add_system_routes(app.router, readiness, verifier.public_keys, app.openapi)
    app.router.routes.extend(asset_routes(settings.assets_dir))


@asynccontextmanager
async def _channel(target: str) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(target) as channel:
        yield channel


@asynccontextmanager
async def _serving(settings: GatewaySettings, app: ASGIApp) -> AsyncIterator[int]:
    protocol = with_limits(
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        unread_seconds=settings.unread_seconds,
        head_bytes=settings.max_head_bytes,
    )
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=int(settings.stop_grace_seconds) or 1,
    )
    with closing(_bound(settings.listen)) as listening:
        server = _Server(config)
        task = asyncio.create_task(server.serve([listening]), name="serve")
        try:
            while not server.started:
                if task.done():
                    await task
                await asyncio.sleep(0.005)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def _bound(address: str) -> socket.socket:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise SystemExit(
            f"cannot listen on {address}: the address is in use or not this machine's; choose another"
        ) from None
    return listening
