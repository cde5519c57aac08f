"""Asking a server whether it does its work yet; a no costs milliseconds."""

from __future__ import annotations

import http.client
import socket

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 2.0


def http_ok(port: int, path: str) -> bool:
    """True when a GET on 127.0.0.1 answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def grpc_ready(port: int) -> bool:
    """True when grpc.health.v1 on 127.0.0.1 says SERVING for the service `ready`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_SECONDS).close()
    except OSError:
        return False  # found out without the cost of a channel
    # A channel of its own each time: no back-off from the probe before.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(service="ready"), timeout=_SECONDS)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
