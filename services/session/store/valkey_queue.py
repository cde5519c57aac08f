"""The queue in Valkey: order by time of arrival, wake-ups by publish and subscribe.

For every conversation that somebody waits for there are two keys, gone when nobody does:

focus:queue:{conversation}        sorted set   turn -> arrival in microseconds since 1970
focus:queue:{conversation}:alive  hash         turn -> "<until, ms since 1970>|<channel of its process>"

Every change is one script, so that Valkey's clock alone counts and no step is half done.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.common import logs
from services.common.errors import Unavailable
from services.session.line import PLACE_TTL, Spot, Standing

log = logs.get(__name__)

_COMMON = """
local order, alive = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local micros = clock[1] * 1000000 + clock[2]
local millis = math.floor(micros / 1000)
local ttl = tonumber(ARGV[1])
local function digits(number) return string.format('%.0f', number) end
local function prune()
  local entries = redis.call('HGETALL', alive)
  for i = 1, #entries, 2 do
    if tonumber(string.match(entries[i + 1], '^%d+')) < millis then
      redis.call('HDEL', alive, entries[i])
      redis.call('ZREM', order, entries[i])
    end
  end
end
local function keep(turn, channel)
  redis.call('HSET', alive, turn, digits(millis + ttl) .. '|' .. channel)
  redis.call('PEXPIRE', order, ttl * 2)
  redis.call('PEXPIRE', alive, ttl * 2)
end
"""
# ARGV: ttl in ms, turn, channel, places at most. Returns {arrival, position}, or nothing when full.
_JOIN = (
    _COMMON
    + """
prune()
local arrived = redis.call('ZSCORE', order, ARGV[2])
if not arrived then
  if redis.call('ZCARD', order) >= tonumber(ARGV[4]) then return false end
  local last = redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')
  arrived = digits(math.max(micros, (tonumber(last[2]) or 0) + 1))
  redis.call('ZADD', order, arrived, ARGV[2])
end
keep(ARGV[2], ARGV[3])
return {digits(tonumber(arrived)), redis.call('ZRANK', order, ARGV[2]) + 1}
"""
)
# ARGV: ttl in ms, channel, then turn and arrival of every waiter. Returns {order, those not known}.
_SHOW = (
    _COMMON
    + """
local returned = {}
for i = 3, #ARGV, 2 do
  if not redis.call('ZSCORE', order, ARGV[i]) then
    redis.call('ZADD', order, ARGV[i + 1], ARGV[i])
    table.insert(returned, ARGV[i])
  end
  keep(ARGV[i], ARGV[2])
end
prune()
return {redis.call('ZRANGE', order, 0, -1), returned}
"""
)
# ARGV: ttl in ms, turn. Returns how many still wait.
_LEAVE = (
    _COMMON
    + """
redis.call('ZREM', order, ARGV[2])
redis.call('HDEL', alive, ARGV[2])
return redis.call('ZCARD', order)
"""
)
# ARGV: ttl in ms, conversation, the turn that waits no more.
_WAKE = (
    _COMMON
    + """
redis.call('ZREM', order, ARGV[3])
redis.call('HDEL', alive, ARGV[3])
prune()
local first = redis.call('ZRANGE', order, 0, 0)[1]
local entry = first and redis.call('HGET', alive, first)
if entry then redis.call('PUBLISH', string.match(entry, '|(.*)$'), ARGV[2] .. ' ' .. first) end
"""
)


class ValkeyQueue:
    """`services.session.line.Queue`. Raises Unavailable when Valkey does not answer."""

    def __init__(self, client: Redis, *, max_queue: int, ttl: float = PLACE_TTL) -> None:
        self._client = client
        self._max_queue = max_queue
        self._channel = f"focus:woken:{secrets.token_hex(8)}"
        self._ttl = int(ttl * 1000)
        self._join = client.register_script(_JOIN)
        self._show = client.register_script(_SHOW)
        self._leave = client.register_script(_LEAVE)
        self._wake = client.register_script(_WAKE)
        self._wanted = asyncio.Event()

    async def join(self, conversation_id: str, turn_id: str) -> Spot | None:
        """Takes the last place, or keeps the one it has; None when the queue is full."""
        self._wanted.set()
        async with _answering():
            reply = await self._join(
                keys=_keys(conversation_id), args=[self._ttl, turn_id, self._channel, self._max_queue]
            )
        return None if reply is None else Spot(int(reply[0]), int(reply[1]))

    async def show(self, conversation_id: str, waiters: Sequence[tuple[str, int]]) -> Standing:
        """These turns still wait in this process; they are woken here from now on."""
        self._wanted.set()
        flat = [word for waiter in waiters for word in waiter]
        async with _answering():
            order, returned = await self._show(keys=_keys(conversation_id), args=[self._ttl, self._channel, *flat])
        return Standing([turn.decode() for turn in order], frozenset(turn.decode() for turn in returned))

    async def leave(self, conversation_id: str, turn_id: str) -> int:
        """Gives a place up; says how many still wait."""
        async with _answering():
            return int(await self._leave(keys=_keys(conversation_id), args=[self._ttl, turn_id]))

    async def holds(self, conversation_id: str, turn_id: str) -> bool:
        """True while the turn has a place."""
        async with _answering():
            return await self._client.zscore(_keys(conversation_id)[0], turn_id) is not None

    async def wake(self, conversation_id: str, after: str) -> None:
        """Tells the process of the first waiter but `after`, which waits no more."""
        async with _answering():
            await self._wake(keys=_keys(conversation_id), args=[self._ttl, conversation_id, after])

    @asynccontextmanager
    async def listening(self, woken: Callable[[str, str], object]) -> AsyncIterator[None]:
        """Calls `woken` with conversation and first turn at every wake-up for this process.

        Connects when the first waiter comes, and again whenever the connection is lost.
        """
        task = asyncio.create_task(self._listen(woken))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self, woken: Callable[[str, str], object]) -> None:
        await self._wanted.wait()
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(self._channel)
                    while True:
                        # The time-out is only for the client's own, shorter one not to count.
                        message = await subscription.get_message(timeout=30.0)
                        if message is not None:
                            woken(*message["data"].decode().split(" "))
            except (RedisError, OSError, TimeoutError) as err:
                log.info("wake-ups are not heard; waiters look by themselves", error=type(err).__name__)
                await asyncio.sleep(0.5)


def _keys(conversation_id: str) -> list[str]:
    # The braces keep both keys in one slot of a cluster.
    name = f"focus:queue:{{{conversation_id}}}"
    return [name, f"{name}:alive"]


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as err:
        log.debug("Valkey does not answer", error=type(err).__name__)
        raise Unavailable("The queue cannot be reached right now; try again in a moment.", retry_after=1.0) from None
