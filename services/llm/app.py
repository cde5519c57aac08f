"""Wires the llm service."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from focus.llm.v1 import llm_pb2, llm_pb2_grpc
from services.common import logs
from services.common.rpc import server
from services.common.rpc.server import Running
from services.llm import messages
from services.llm.candidates import Candidates
from services.llm.chain import Cascade, Policy
from services.llm.circuits import Circuits
from services.llm.current import Current
from services.llm.dispatch import Dispatcher
from services.llm.failover import FleetLimiter
from services.llm.memory import MemoryLimiter
from services.llm.operations import Operations
from services.llm.pressure import Pressure
from services.llm.providers import gemini
from services.llm.providers.credentials import Credentials
from services.llm.quarantine import Quarantine
from services.llm.quota import LimiterUnavailable, Windows
from services.llm.servicer import LlmServicer
from services.llm.settings import Settings
from services.llm.settling import Settler
from services.llm.store.limiter import Membership, Replay, ValkeyLimiter
from services.llm.tokens import Estimator
from services.llm.waiting import WaitingRoom

log = logs.get(__name__)

SERVICE = llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """The service between start and ordered stop."""
    async with AsyncExitStack() as stack:
        current = Current(settings)
        pressure = Pressure()
        _begin(stack, pressure.run())
        provider = await stack.enter_async_context(
            gemini.opened(
                settings.base_url,
                settings.vertex_base_url,
                current.is_vertex,
                pressure,
                connections=settings.connections,
            )
        )
        await provider.warm(settings.warm_connections)
        _begin(stack, current.watched())
        clock = asyncio.get_running_loop().time
        circuits = Circuits(clock)
        candidates = Candidates(current.catalogue, current.keys, circuits)
        windows = Windows(settings.quota_window_seconds, settings.quota_guard_seconds, settings.spend_window_seconds)
        limiter = await _limiter(stack, settings, windows, current, candidates)
        room = WaitingRoom(limiter)
        _begin(stack, room.run())
        settler = Settler(limiter)
        _begin(stack, settler.run())
        stack.push_async_callback(settler.flush)
        quarantine = Quarantine(current.keys, limiter.store if isinstance(limiter, FleetLimiter) else None)
        dispatcher = Dispatcher(
            provider,
            current.catalogue,
            current.keys,
            quarantine,
            circuits,
            candidates,
            limiter,
            room,
            settler,
            Estimator(),
            Credentials(),
            settings.timeouts,
            windows,
        )
        cascade = Cascade(
            dispatcher, Policy(settings.threshold, settings.unstated_confidence, settings.senior_confidence)
        )
        servicer = LlmServicer(
            cascade,
            messages.Bounds(settings.max_question_tokens, settings.default_max_output_tokens),
            settings.total_seconds,
            Operations(limiter, candidates, circuits),
            current,
        )
        yield await stack.enter_async_context(
            server.serving(
                settings,
                lambda grpc_server: llm_pb2_grpc.add_LlmServiceServicer_to_server(servicer, grpc_server),
                [SERVICE],
            )
        )


async def _limiter(
    stack: AsyncExitStack, settings: Settings, windows: Windows, current: Current, candidates: Candidates
) -> FleetLimiter | MemoryLimiter:
    """The fleet's limiter, or without a Valkey this process's own."""
    if not settings.valkey_url:
        log.warning("no FOCUS_LLM_VALKEY_URL: this process must be the only one that uses the quota")
        clock = asyncio.get_running_loop().time
        return MemoryLimiter(windows, current.catalogue, clock, most_waiting=settings.most_waiting)
    membership = Membership(
        uuid.uuid4().hex,
        settings.instance or f"{socket.gethostname()}/{settings.grpc_listen}",
        settings.lease_seconds,
        settings.silent_seconds,
        settings.roll_call_seconds,
    )
    replay = Replay(deque(), {})
    store = ValkeyLimiter(
        settings.valkey_url,
        windows,
        membership,
        current.catalogue,
        replay,
        candidates.all,
        timeout=settings.valkey_seconds,
        most_waiting=settings.most_waiting,
    )
    limiter = FleetLimiter(store, windows, membership, current.catalogue, replay)
    try:
        await store.beat()
    except LimiterUnavailable:
        log.warning("the quota's store cannot be reached; questions wait until it can")

    async def leave() -> None:
        with suppress(LimiterUnavailable):
            await store.bye()

    stack.push_async_callback(leave)
    _begin(stack, limiter.keep())
    return limiter


def _begin(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` beside until the stack closes."""

    async def cancelled(task: asyncio.Task[None]) -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(cancelled, asyncio.create_task(work))
