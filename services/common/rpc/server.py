"""The gRPC server: options, error translation, health, reflection, ordered shutdown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from services.common import context, errors, logs, metrics
from services.common.rpc import status
from services.common.settings import GrpcSettings

log = logs.get(__name__)

# Health services. LIVE stays SERVING until the process ends: it never looks at a
# dependency. READY (and the nameless one) turns NOT_SERVING when the drain begins.
LIVE = "live"
READY = "ready"

# Tells the client's channel not to retry: a servicer has answered, what happens next
# is for the one place that retries (gRFC A6).
_NO_RETRY = (("grpc-retry-pushback-ms", "-1"),)

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", 16 << 20),
]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is listening."""

    port: int
    health: HealthServicer


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Around every call: ids into the logs, FocusError into a status, a defect into INTERNAL.

    Handlers are wrapped once per method, not per call.
    """

    def __init__(self) -> None:
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/focus."):
            return handler
        if handler.unary_unary is not None:
            wrapped = grpc.unary_unary_rpc_method_handler(
                _wrap_unary(method, cast("Any", handler.unary_unary)),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        elif handler.unary_stream is not None:
            wrapped = grpc.unary_stream_rpc_method_handler(
                _wrap_stream(method, cast("Any", handler.unary_stream)),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        else:
            return handler
        self._wrapped[method] = wrapped
        return wrapped


def _bind(request: Any, rpc: grpc.aio.ServicerContext[Any, Any]) -> None:
    request_id: str | None = None
    traceparent: str | None = None
    for key, value in rpc.invocation_metadata() or ():
        if key == context.TRACEPARENT:
            traceparent = cast("str", value)
        elif key == context.REQUEST_ID:
            request_id = cast("str", value)
    principal = getattr(request, "principal", None)
    context.bind(request_id, traceparent, principal.tenant_id if principal is not None else "")


def _failure(method: str, err: BaseException) -> errors.FocusError:
    if isinstance(err, errors.FocusError):
        failure = err
        log.info("call failed", method=method, reason=err.reason_name, message=err.message)
    else:
        failure = errors.Internal("Something went wrong inside the service; the request id finds it in the logs.")
        log.error("call failed by a defect", method=method, exc_info=err)
    metrics.RPC_FAILURES.labels(method, failure.reason_name).inc()
    return failure


async def _abort(rpc: grpc.aio.ServicerContext[Any, Any], failure: errors.FocusError) -> None:
    answer = status.to_status(failure)
    # In one tuple: metadata given to `abort` takes the place of what was set before.
    await rpc.abort(answer.code, answer.details or "", (*(answer.trailing_metadata or ()), *_NO_RETRY))


def _wrap_unary(method: str, behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    seconds = metrics.RPC_SECONDS.labels(method)
    inflight = metrics.RPC_INFLIGHT.labels(method)

    async def call(request: Any, rpc: grpc.aio.ServicerContext[Any, Any]) -> Any:
        _bind(request, rpc)
        started = time.perf_counter()
        inflight.inc()
        try:
            return await behaviour(request, rpc)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as err:
            failure = _failure(method, err)
        finally:
            inflight.dec()
            seconds.observe(time.perf_counter() - started)
        await _abort(rpc, failure)

    return call


def _wrap_stream(
    method: str, behaviour: Callable[[Any, Any], AsyncIterator[Any]]
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    seconds = metrics.RPC_SECONDS.labels(method)
    inflight = metrics.RPC_INFLIGHT.labels(method)

    async def call(request: Any, rpc: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        _bind(request, rpc)
        started = time.perf_counter()
        inflight.inc()
        messages = behaviour(request, rpc)
        try:
            async for message in messages:
                yield message
            return
        except (asyncio.CancelledError, GeneratorExit, grpc.aio.AbortError):
            raise
        except Exception as err:
            failure = _failure(method, err)
        finally:
            inflight.dec()
            seconds.observe(time.perf_counter() - started)
            if isinstance(messages, AsyncGenerator):
                await messages.aclose()
        await _abort(rpc, failure)

    return call


def timeout_of(rpc: grpc.aio.ServicerContext[Any, Any], default: float) -> float:
    """Seconds that the caller still waits, at most `default`."""
    remaining = rpc.time_remaining()
    return default if remaining is None else min(max(remaining, 0.0), default)


@asynccontextmanager
async def serving(
    settings: GrpcSettings,
    register: Callable[[grpc.aio.Server], None],
    service_names: Sequence[str],
) -> AsyncIterator[Running]:
    """A server between start and ordered stop: not serving, drain, running calls end, closed.

    `register` adds the servicers, `service_names` are their full protobuf names.
    """
    server = grpc.aio.server(
        interceptors=[CallInterceptor()],
        options=[
            *_OPTIONS,
            ("grpc.max_connection_age_ms", int(settings.max_connection_age_seconds * 1000)),
            ("grpc.max_connection_age_grace_ms", int(settings.max_connection_age_grace_seconds * 1000)),
        ],
    )
    health = HealthServicer()
    # Registered before the port opens, so that a probe never finds a server without it.
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    register(server)
    if settings.reflection:
        reflection.enable_server_reflection(
            [*service_names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME],
            server,
        )
    for name in ("", LIVE, READY, *service_names):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        port = server.add_insecure_port(settings.grpc_listen)
    except RuntimeError:
        raise SystemExit(
            f"cannot listen on {settings.grpc_listen}: the address is in use or not this machine's; choose another"
        ) from None
    await server.start()
    log.info("listening", address=settings.grpc_listen, port=port)
    try:
        yield Running(port, health)
    finally:
        for name in ("", READY, *service_names):
            await health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        if settings.drain_seconds:
            await asyncio.sleep(settings.drain_seconds)
        await server.stop(settings.stop_grace_seconds)
        log.info("stopped")
