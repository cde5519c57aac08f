"""Connections to Valkey. Which keys there are is known to each service's store alone."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def connect(url: str, *, timeout: float, max_connections: int = 64) -> Redis:
    """A client for `redis://host:port/db`; nothing is opened before the first command.

    `timeout` (seconds) bounds connecting and every command. There are no retries: each
    caller knows what to do without Valkey, and must know soon.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
