"""Prometheus metrics that every service has, and the port that shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram, start_http_server

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

RPC_SECONDS = Histogram("focus_rpc_seconds", "Time from a call's arrival to its end.", ["method"], buckets=_SECONDS)
RPC_INFLIGHT = Gauge("focus_rpc_inflight", "Calls being served.", ["method"])
RPC_FAILURES = Counter("focus_rpc_failures", "Calls that ended with an error, by its reason.", ["method", "reason"])


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as a pair; raises SystemExit with a sentence otherwise."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise SystemExit(f"'{address}' is not host:port, such as 127.0.0.1:9100")
    return host.strip("[]"), int(port)


@contextmanager
def exposed(address: str) -> Iterator[None]:
    """Serves /metrics on `host:port`; nothing when the address is empty."""
    if not address:
        yield
        return
    host, port = split_address(address)
    try:
        server, thread = start_http_server(port, host)
    except OSError as err:
        raise SystemExit(f"cannot show metrics on {address}: {err.strerror}; choose another address") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
