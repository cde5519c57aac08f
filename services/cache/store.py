"""Answers in Valkey. The only module that knows its driver and the names of its keys."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.cache.answers import StoreUnavailable


class ValkeyStore:
    """Values as strings with an expiry, one key each."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey

    async def get(self, key: bytes) -> bytes | None:
        try:
            value = await self._valkey.get(name(key))
        except (RedisError, OSError, TimeoutError) as err:
            raise StoreUnavailable from err
        return cast("bytes | None", value)  # the client does not decode

    async def put(self, key: bytes, value: bytes, life_ms: int) -> None:
        try:
            await self._valkey.set(name(key), value, px=life_ms)
        except (RedisError, OSError, TimeoutError) as err:
            raise StoreUnavailable from err


def name(key: bytes) -> bytes:
    """The key's name in Valkey; the braces keep all that belongs to one entry in one slot of a cluster."""
    return b"fc:{" + urlsafe_b64encode(key).rstrip(b"=") + b"}"
