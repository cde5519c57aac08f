"""Server and channel together, over a real port."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1.auth_pb2 import CreateApiKeyRequest, CreateApiKeyResponse
from services.common import context, errors
from services.common.errors import FocusError
from services.common.rpc import client, server
from services.common.settings import GrpcSettings

SERVICE = "focus.test.v1.TestService"
Rpc = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Servicer:
    """Does what the test says; notes what arrived."""

    failure: Exception | None = None
    fail_after: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    contexts: list[context.CallContext | None] = field(default_factory=list)
    remaining: list[float] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def _arrived(self, rpc: Rpc) -> None:
        self.calls += 1
        self.contexts.append(context.current())
        self.remaining.append(server.timeout_of(rpc, 100.0))

    async def unary(self, request: CreateApiKeyRequest, rpc: Rpc) -> CreateApiKeyResponse:
        self._arrived(rpc)
        try:
            if request.label == "wait":
                await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            return CreateApiKeyResponse(key_id=request.label)
        finally:
            self.ended.set()

    async def stream(self, request: CreateApiKeyRequest, rpc: Rpc) -> AsyncIterator[CreateApiKeyResponse]:
        self._arrived(rpc)
        try:
            for number in range(10):
                if self.failure is not None and number == self.fail_after:
                    raise self.failure
                yield CreateApiKeyResponse(key_id=str(number))
                if number == 1 and request.label == "wait":
                    await self.gate.wait()
        finally:
            self.ended.set()


@dataclass
class House:
    servicer: Servicer
    channel: grpc.aio.Channel
    health: health_pb2_grpc.HealthStub

    async def unary(self, label: str = "", *, tenant: str = "", timeout: float = 10) -> str:
        method: Any = self.channel.unary_unary(
            f"/{SERVICE}/Unary", CreateApiKeyRequest.SerializeToString, CreateApiKeyResponse.FromString
        )
        request = CreateApiKeyRequest(label=label)
        request.principal.tenant_id = tenant
        response: CreateApiKeyResponse = await client.unary(method, request, timeout=timeout)
        return response.key_id

    async def stream(self, label: str = "", *, timeout: float = 10) -> AsyncIterator[str]:
        method: Any = self.channel.unary_stream(
            f"/{SERVICE}/Stream", CreateApiKeyRequest.SerializeToString, CreateApiKeyResponse.FromString
        )
        messages = client.stream(method, CreateApiKeyRequest(label=label), timeout=timeout)
        async with aclosing(messages):
            async for message in messages:
                yield message.key_id

    async def status_of(self, service: str) -> str:
        response = await self.health.Check(health_pb2.HealthCheckRequest(service=service))
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


@asynccontextmanager
async def house(stack: AsyncExitStack, **settings: Any) -> AsyncIterator[House]:
    """The server is closed with the context, the channel with the stack."""
    servicer = Servicer()
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(
            servicer.unary, CreateApiKeyRequest.FromString, CreateApiKeyResponse.SerializeToString
        ),
        "Stream": grpc.unary_stream_rpc_method_handler(
            servicer.stream, CreateApiKeyRequest.FromString, CreateApiKeyResponse.SerializeToString
        ),
    }

    def register(grpc_server: grpc.aio.Server) -> None:
        grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    chosen = GrpcSettings(**{"stop_grace_seconds": 5, **settings})
    async with server.serving(chosen, register, [SERVICE]) as running:
        channel = await stack.enter_async_context(client.open_channel(f"127.0.0.1:{running.port}"))
        yield House(servicer, channel, health_pb2_grpc.HealthStub(channel))


@pytest.fixture
async def focus() -> AsyncIterator[House]:
    async with AsyncExitStack() as stack, house(stack) as opened:
        yield opened


async def all_of(messages: AsyncIterator[str]) -> list[str]:
    return [message async for message in messages]


async def failure(call: Awaitable[object]) -> FocusError:
    with pytest.raises(FocusError) as caught:
        await call
    return caught.value


async def test_a_domain_error_arrives_as_it_was_raised(focus: House) -> None:
    sent = errors.Exhausted("Zu viel — später.", retry_after=2.5, metadata={"limit": "20"})
    focus.servicer.failure = sent
    for call in (focus.unary(), all_of(focus.stream())):
        got = await failure(call)
        assert (type(got), got.message, got.reason) == (errors.Exhausted, sent.message, sent.reason)
        assert (got.retry_after, got.metadata) == (2.5, {"limit": "20"})


async def test_what_a_stream_gave_before_its_failure_arrives(focus: House) -> None:
    focus.servicer.failure, focus.servicer.fail_after = errors.Unavailable("The provider stopped."), 3
    got: list[str] = []

    async def read() -> None:
        async for message in focus.stream():
            got.append(message)  # noqa: PERF401  what came before the failure counts

    assert (await failure(read())).message == "The provider stopped."
    assert got == ["0", "1", "2"]


async def test_a_defect_becomes_internal_without_its_text(focus: House) -> None:
    focus.servicer.failure = RuntimeError("password of db-7 is hunter2")
    for call in (focus.unary(), all_of(focus.stream())):
        got = await failure(call)
        assert (type(got), got.reason) == (errors.Internal, ErrorReason.ERROR_REASON_INTERNAL)
        assert "hunter2" not in got.message


@pytest.mark.parametrize("reason", [None, ErrorReason.ERROR_REASON_STORE_UNAVAILABLE])
async def test_the_channel_does_not_repeat_what_a_servicer_answered(
    focus: House, reason: ErrorReason.ValueType | None
) -> None:
    """UNAVAILABLE is what the channel may retry, but one place decides, and it is not the channel."""
    focus.servicer.failure = errors.Unavailable("The store is away.", reason)
    await failure(focus.unary())
    assert focus.servicer.calls == 1
    await failure(all_of(focus.stream()))
    assert focus.servicer.calls == 2


async def test_the_deadline_goes_along_and_ends_the_call_on_both_sides(focus: House) -> None:
    await focus.unary(timeout=30)
    assert 20 < focus.servicer.remaining[0] < 31
    got = await failure(focus.unary("wait", timeout=0.3))
    assert (type(got), got.reason_name) == (errors.DeadlineExceeded, "DEADLINE_EXCEEDED")
    async with asyncio.timeout(10):
        await focus.servicer.ended.wait()


async def test_request_id_trace_and_tenant_go_along(focus: House) -> None:
    sent = context.bind("my-request")
    await focus.unary(tenant="my-tenant")
    context.bind()
    await all_of(focus.stream())
    first, second = focus.servicer.contexts
    assert first == context.CallContext("my-request", sent.trace_id, "my-tenant")
    assert second is not None
    assert second.request_id == second.trace_id != sent.trace_id
    assert re.fullmatch("[0-9a-f]{32}", second.trace_id)


async def test_leaving_a_stream_early_ends_it_at_the_server(focus: House) -> None:
    messages = focus.stream("wait")
    async for message in messages:
        if message == "1":
            break
    assert not focus.servicer.ended.is_set()
    await messages.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        await focus.servicer.ended.wait()


async def test_a_target_that_is_away_is_unavailable_and_to_be_tried_again() -> None:
    async with AsyncExitStack() as stack:
        async with house(stack) as opened:
            assert await opened.unary("x") == "x"
        got = await failure(opened.unary("x", timeout=5))
        assert (type(got), got.reason_name) == (errors.Unavailable, "SERVICE_UNAVAILABLE")
        assert got.retry_after


async def test_health_tells_of_every_service_but_not_of_unknown_ones(focus: House) -> None:
    for service in ("", "live", "ready", SERVICE):
        assert await focus.status_of(service) == "SERVING"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await focus.status_of("focus.test.v1.Other")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_the_end_is_announced_first_and_a_running_stream_ends_unbroken() -> None:
    async with AsyncExitStack() as stack:
        opening = house(stack, drain_seconds=0.5, max_connection_age_seconds=60)
        opened = await opening.__aenter__()
        running = asyncio.create_task(all_of(opened.stream("wait")))
        waiting = asyncio.create_task(opened.unary("wait"))
        while opened.servicer.calls < 2:  # noqa: ASYNC110  both have arrived
            await asyncio.sleep(0.01)
        closing = asyncio.create_task(opening.__aexit__(None, None, None))
        while await opened.status_of("ready") == "SERVING":  # noqa: ASYNC110  the drain has begun
            await asyncio.sleep(0.01)
        assert [await opened.status_of(service) for service in ("", SERVICE, "live")] == [
            "NOT_SERVING",
            "NOT_SERVING",
            "SERVING",
        ]
        assert await opened.unary("still answered") == "still answered"
        assert not running.done()
        opened.servicer.gate.set()
        assert await running == [str(number) for number in range(10)]
        assert await waiting == "wait"
        await closing


async def test_what_outlives_the_grace_is_cut() -> None:
    async with AsyncExitStack() as stack:
        opening = house(stack, stop_grace_seconds=0.1)
        opened = await opening.__aenter__()
        running = asyncio.create_task(all_of(opened.stream("wait")))
        while not opened.servicer.calls:  # noqa: ASYNC110  it has arrived
            await asyncio.sleep(0.01)
        await opening.__aexit__(None, None, None)
        assert isinstance(await failure(running), errors.Unavailable | errors.Cancelled)
        async with asyncio.timeout(10):
            await opened.servicer.ended.wait()


async def test_a_stream_outlives_the_connections_age() -> None:
    async with AsyncExitStack() as stack, house(stack, max_connection_age_seconds=0.2) as opened:
        running = asyncio.create_task(all_of(opened.stream("wait")))
        for _ in range(20):
            assert await opened.unary("x") == "x"
            await asyncio.sleep(0.05)
        opened.servicer.gate.set()
        assert len(await running) == 10


async def test_a_port_in_use_ends_the_process_with_one_sentence(focus: House) -> None:
    async with AsyncExitStack() as stack:
        opening: Callable[[str], Any] = lambda listen: house(stack, grpc_listen=listen)  # noqa: E731
        async with server.serving(GrpcSettings(), lambda _: None, []) as running:
            with pytest.raises(SystemExit, match="is in use or not this machine's; choose another"):
                async with opening(f"127.0.0.1:{running.port}"):
                    pass


@pytest.mark.parametrize("reflection", [True, False])
async def test_reflection_is_there_only_where_it_is_switched_on(reflection: bool) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async with AsyncExitStack() as stack, house(stack, reflection=reflection) as opened:
        stub = reflection_pb2_grpc.ServerReflectionStub(opened.channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        if reflection:
            (response,) = [response async for response in call]
            assert SERVICE in {service.name for service in response.list_services_response.service}
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [response async for response in call]
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
