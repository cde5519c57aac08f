"""The stream of calls that the llm service's settle script appends to, in the limits' Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.common import logs
from services.common.errors import Unavailable
from services.session.ledger import Entry

log = logs.get(__name__)

# Name and fields belong to services/llm/store/lua/common.lua.
STREAM = "{focus:quota}:ledger"
_UNREADABLE = f"{STREAM}:unreadable"
_UNREADABLE_KEPT = 10_000


class ValkeyEvents:
    """`services.session.ledger.Events`."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def oldest(self, most: int) -> Sequence[Entry]:
        """The first events, with their ids; they stay where they are."""
        async with _answering():
            found: Any = await self._client.xrange(STREAM, count=most)
        return [(name.decode(), {_text(key): _text(value) for key, value in fields.items()}) for name, fields in found]

    async def remove(self, ids: Sequence[str]) -> None:
        """Those that are booked; one that is gone already is no error."""
        async with _answering():
            await self._client.xdel(STREAM, *ids)

    async def set_aside(self, entry: Entry) -> None:
        """Keeps one that cannot be read where somebody may look at it, out of the way of the others."""
        name, fields = entry
        async with _answering(), self._client.pipeline(transaction=True) as both:
            kept: dict[Any, Any] = {"event": name, **fields}
            both.xadd(_UNREADABLE, kept, maxlen=_UNREADABLE_KEPT, approximate=True)
            both.xdel(STREAM, name)
            await both.execute()


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as err:
        log.debug("Valkey does not answer", error=type(err).__name__)
        raise Unavailable("The store of quota cannot be reached right now.", retry_after=1.0) from None
