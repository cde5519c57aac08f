"""Channels and calls to the other services.

One channel per target for the life of the process: opening one costs more than a
call. Addresses are resolved as `dns:///` and used in turn, so that with a headless
Service every pod gets its share. The channel alone retries, and only what no
servicer has answered (see `server`: every answer forbids a retry).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import grpc

from services.common import context
from services.common.rpc import status

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # A budget for the whole channel: retries stop when a fifth of the calls fail.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
}

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # The server drops connections every few seconds; only then are new pods seen.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 16 << 20),
]


def open_channel(target: str) -> grpc.aio.Channel:
    """A channel to `host:port` (or any gRPC target). The caller closes it."""
    if "://" not in target and not target.startswith("unix:"):
        target = f"dns:///{target}"
    return grpc.aio.insecure_channel(target, options=_OPTIONS)


async def unary(
    method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT, *, timeout: float
) -> ResponseT:
    """One call with the current request's ids; `timeout` in seconds. A failure is raised as a FocusError."""
    try:
        return await method(request, timeout=timeout, metadata=context.outgoing_metadata())
    except grpc.aio.AioRpcError as err:
        raise status.from_rpc_error(err) from None


async def stream(
    method: grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT], request: RequestT, *, timeout: float
) -> AsyncGenerator[ResponseT, None]:
    """The messages of a server stream; leaving the loop early cancels the call.

    Close it explicitly (`contextlib.aclosing`): an abandoned call is not cancelled
    by itself (grpc#43462).
    """
    call = method(request, timeout=timeout, metadata=context.outgoing_metadata())
    try:
        async for message in call:
            yield message
    except grpc.aio.AioRpcError as err:
        raise status.from_rpc_error(err) from None
    finally:
        call.cancel()
