"""The limiter over the limits' Valkey, and this process's membership in the fleet that shares it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.common import logs
from services.llm.catalogue import Catalogue, Limits, TierName
from services.llm.providers.port import Endpoint
from services.llm.quota import (
    MOST_OFFERED,
    PRIORITIES,
    ComeLater,
    Grant,
    LimiterUnavailable,
    Never,
    NoRetry,
    Outcome,
    Place,
    Polled,
    Settlement,
    Windows,
    Wish,
    midnights,
    pool_name,
)
from services.llm.store import scripts
from services.llm.store.connection import CommandFailed, Connection, ScriptMissing, Unreachable, Word, call, connect

log = logs.get(__name__)

PREFIX = "{focus:quota}"
LEDGER = f"{PREFIX}:ledger"

_PRIORITY_NAMES = {number: name for name, number in PRIORITIES.items()}


@dataclass(frozen=True, slots=True)
class Membership:
    """`member` is this process, `instance` what it replaces when it starts again. Times in seconds.

    A member that says nothing for `silent` is debited its share until `lease` has passed since it
    last came, for so long it may use that share without the store. After the store restarted nobody
    is granted anything for `roll_call`, unless all have come back before.
    """

    member: str
    instance: str
    lease: float = 900.0
    silent: float = 3.0
    roll_call: float = 1.0


@dataclass(slots=True)
class Replay:
    """What this process was granted lately, for a store that may have forgotten it."""

    # call id, pool, loop time, tokens
    grants: deque[tuple[str, str, float, int]]
    # pool -> midnight, calls, tokens of that day as the store said last
    days: dict[str, tuple[int, int, int]]
    # pool -> midnight, calls, tokens granted without the store
    own: dict[str, tuple[int, int, int]] = field(default_factory=dict)


class ValkeyLimiter:
    """One atomic script a step; see `lua/common.lua` for what is stored."""

    def __init__(
        self,
        url: str,
        windows: Windows,
        membership: Membership,
        catalogue: Callable[[], Catalogue],
        replay: Replay,
        endpoints: Callable[[], Sequence[Endpoint]],
        *,
        timeout: float = 0.5,
        most_waiting: int = 10_000,
    ) -> None:
        self._url = url
        self._windows = windows
        self._membership = membership
        self._catalogue = catalogue
        self._replay = replay
        self._endpoints = endpoints
        self._timeout = timeout
        self._most_waiting = most_waiting
        self._scripts = {
            name: scripts.load(name) for name in ("acquire", "poll", "settle", "leave", "health", "member", "show")
        }
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._head: tuple[Word, ...] = ()
        self._head_at(time.time())
        self._pools: dict[Endpoint, tuple[Word, ...]] = {}
        self._pools_of: Catalogue | None = None
        # What the store said last: members, own share of every limit, version of the list of refused keys.
        self.members = 0
        self.share = 0.0
        self.debit = 0.0
        self.keys_version = 0
        # Grows whenever places in the queue may have been lost.
        self.epoch = 0
        # Loop times: when the last command that was carried out may have been, and whether the server is surely gone.
        self.heard = float("-inf")
        self.gone = False

    async def acquire(self, wish: Wish, patience: float) -> Outcome:
        started = asyncio.get_running_loop().time()
        reply = await self._run(
            "acquire",
            wish.tier,
            wish.call_id,
            wish.tenant_id,
            wish.priority,
            wish.tokens,
            wish.cost,
            int(patience * 1000),
            self._most_waiting,
            1 if wish.retry else 0,
            _info(wish),
            int(wish.lost_after * 1000),
            *(word for endpoint in wish.endpoints for word in self._pool(endpoint)),
        )
        kind = reply[0]
        if kind == b"grant":
            self.keys_version = reply[3]
            return self._granted(wish, wish.endpoints[reply[1] - 1], started, reply[4], reply[5])
        if kind == b"queued":
            wish.entry, wish.score = reply[1].decode(), float(reply[2])
            self.keys_version = reply[5]
            return Place(reply[3], reply[4] / 1000)
        if kind == b"full":
            return ComeLater(reply[1] / 1000, reply[2] / 1000)
        if kind == b"budget":
            return NoRetry()
        return Never()

    async def poll(self, tier: TierName, waiting: Sequence[Wish]) -> Polled:
        started = asyncio.get_running_loop().time()
        numbers: dict[Endpoint, int] = {}
        calls: list[Word] = []
        for wish in waiting:
            own = [str(numbers.setdefault(endpoint, len(numbers) + 1)) for endpoint in wish.endpoints]
            calls += (wish.entry, wish.tokens, wish.cost, _info(wish), int(wish.lost_after * 1000), ",".join(own))
        pools = [word for endpoint in numbers for word in self._pool(endpoint)]
        reply = await self._run("poll", tier, len(numbers), MOST_OFFERED, *pools, *calls)
        self.keys_version = reply[2]
        endpoints = list(numbers)
        granted = []
        for at in range(4, len(reply), 4):
            wish, endpoint = waiting[reply[at] - 1], endpoints[reply[at + 1] - 1]
            granted.append((wish, self._granted(wish, endpoint, started, reply[at + 2], reply[at + 3])))
        return Polled(granted, reply[3] / 1000)

    async def places(self, tier: TierName, waiting: Sequence[Wish]) -> Sequence[Place]:
        connection = await self._joined()
        queue = f"{PREFIX}:queue:{tier}"
        ranks = await self._answered(
            asyncio.gather(*(call(connection, ("ZRANK", queue, wish.entry), self._timeout) for wish in waiting))
        )
        catalogue = self._catalogue()
        places = []
        for wish, rank in zip(waiting, ranks, strict=True):
            minute = sum(_calls_a_minute(catalogue.limits(endpoint), wish.tokens) for endpoint in wish.endpoints)
            position = 1 if rank is None else rank + 1
            places.append(Place(position, position * self._windows.minute / max(minute, 1e-6)))
        return places

    async def leave(self, tier: TierName, waiting: Sequence[Wish]) -> None:
        words: list[Word] = []
        for wish in waiting:
            words += (wish.entry, wish.priority, wish.tenant_id, wish.tokens)
        await self._run("leave", tier, *words)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        words: list[Word] = []
        for settlement in settlements:
            endpoint, usage = settlement.endpoint, settlement.usage
            limits = self._catalogue().limits(endpoint)
            words += (settlement.wish.call_id, pool_name(endpoint), endpoint.project, settlement.outcome)
            words += (settlement.cost, usage.prompt, usage.cached, usage.output, usage.thoughts)
            words += (limits.rpm or 60 if limits.adaptive else -1, _info(settlement.wish))
        await self._run("settle", *words)

    async def cool(self, endpoints: Sequence[Endpoint], seconds: float, *, lower: bool = False) -> None:
        for endpoint in endpoints:
            limits = self._catalogue().limits(endpoint)
            start = limits.rpm or 60 if limits.adaptive else 0
            await self._run("health", "cool", int(seconds * 1000), 1 if lower else 0, start, pool_name(endpoint))

    async def quarantine(self, fingerprint: str, base: float, longest: float) -> Mapping[str, float]:
        """Nobody uses the key for `base` seconds, four times as long after each further refusal."""
        return self._refused(
            await self._run("health", "quarantine", fingerprint, int(base * 1000), int(longest * 1000))
        )

    async def pardon(self, fingerprint: str) -> Mapping[str, float]:
        """The key works again."""
        return self._refused(await self._run("health", "pardon", fingerprint))

    async def refused_keys(self) -> Mapping[str, float]:
        """Fingerprints of refused keys, and for how many seconds more."""
        return self._refused(await self._run("health", "keys"))

    def _refused(self, reply: list[Any]) -> Mapping[str, float]:
        self.keys_version = reply[2]
        pairs = reply[3]
        return {pairs[at].decode(): (float(pairs[at + 1]) - reply[1]) / 1000 for at in range(0, len(pairs), 2)}

    async def beat(self) -> None:
        """Tells that this process lives and takes its share anew; to be called about twice a second."""
        limited = []
        for endpoint in self._endpoints():
            limits = self._catalogue().limits(endpoint)
            if limits.rpd is not None or limits.input_tpd is not None:
                limited.append(pool_name(endpoint))
        reply = await self._run("member", "beat", *self._fleet(), *limited)
        self._told(reply)
        for at, pool in enumerate(limited):
            self._replay.days[pool] = (self._midnight, reply[6 + 2 * at], reply[7 + 2 * at])

    async def bye(self) -> None:
        """Leaves the fleet; nothing is debited for this process any more."""
        await self._run("member", "leave", *self._fleet())
        self.close()

    async def forget(self, member: str) -> None:
        """Declares another member dead: an operator knows that it can send nothing any more."""
        await self._run("member", "forget", *self._fleet(), member)

    async def show(self, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
        """Everything the store knows, for operators."""
        reply = await self._run("show", *(pool_name(endpoint) for endpoint in endpoints))
        shown: dict[str, Any] = orjson.loads(reply)
        return shown

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    # Below: how a script is run.

    async def _run(self, name: str, *words: Word) -> Any:
        for _ in range(4):
            connection = await self._joined()
            reply = await self._answered(self._call(connection, name, words))
            if isinstance(reply, list) and reply[0] == b"rejoin":
                # The store does not know this process (any more): it restarted, was emptied, or gave us up.
                await self._answered(self._join(connection))
            elif isinstance(reply, list) and reply[0] == b"day":
                self._head_at(reply[1] / 1000)
            else:
                return reply
        raise LimiterUnavailable

    async def _answered(self, reply: Any) -> Any:
        try:
            answer = await reply
        except Unreachable as err:
            self.gone = err.gone
            raise LimiterUnavailable from None
        except CommandFailed as err:
            log.error("the quota's store refused a command", message=str(err))
            raise LimiterUnavailable from None
        self.heard = asyncio.get_running_loop().time()
        return answer

    async def _call(self, connection: Connection, name: str, words: Sequence[Word]) -> Any:
        script = self._scripts[name]
        # It may be carried out even if its reply is lost.
        self.heard = asyncio.get_running_loop().time()
        try:
            return await call(connection, ("EVALSHA", script.sha, 1, PREFIX, *self._head, *words), self._timeout)
        except ScriptMissing:
            return await call(connection, ("EVAL", script.text, 1, PREFIX, *self._head, *words), self._timeout)

    async def _joined(self) -> Connection:
        """The connection, after this process has told the server behind it what it was granted lately."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._open())
        try:
            return await asyncio.shield(self._connecting)
        except Unreachable as err:
            self.gone = err.gone
            raise LimiterUnavailable from None
        except CommandFailed as err:
            log.error("the quota's store refused a command", message=str(err))
            raise LimiterUnavailable from None

    async def _open(self) -> Connection:
        connection = await connect(self._url, self._timeout)
        try:
            await self._join(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    async def _join(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        grants = [grant for grant in self._replay.grants if now - grant[2] < self._windows.whole]
        words: list[Word] = [self._membership.instance, len(grants)]
        for call_id, pool, at, tokens in grants:
            words += (call_id, pool, int((now - at) * 1000), tokens)
        for pool, (midnight, calls, tokens) in self._replay.days.items():
            own = self._replay.own.get(pool, (0, 0, 0))
            words += (pool, midnight, calls, tokens, *(own[1:] if own[0] == midnight else (0, 0)))
        for _ in range(2):
            reply = await self._call(connection, "member", ("join", *self._fleet(connection), *words))
            if reply[0] == b"member":
                self._replay.own.clear()
                self.epoch += 1
                self._told(reply)
                return

    def _fleet(self, connection: Connection | None = None) -> tuple[Word, ...]:
        membership = self._membership
        found = connection or self._connection
        return (
            found.run_id if found is not None else "",
            int(membership.lease * 1000),
            int(membership.silent * 1000),
            int(membership.roll_call * 1000),
            int(self._windows.spend * 1000),
        )

    def _told(self, reply: list[Any]) -> None:
        self.members, self.share, self.keys_version, self.debit = reply[2], reply[3] / 1e6, reply[4], reply[5] / 1e6

    def _head_at(self, seconds: float) -> None:
        windows = self._windows
        days = midnights(seconds)
        self._midnight = days[1]
        self._head = (self._membership.member, int(windows.whole * 1000), int(windows.guard * 1000), *days)

    def _pool(self, endpoint: Endpoint) -> tuple[Word, ...]:
        catalogue = self._catalogue()
        if catalogue is not self._pools_of:
            self._pools, self._pools_of = {}, catalogue
        found = self._pools.get(endpoint)
        if found is None:
            limits = catalogue.limits(endpoint)
            found = self._pools[endpoint] = (
                pool_name(endpoint),
                endpoint.project,
                *(
                    -1 if limit is None else limit
                    for limit in (limits.rpm, limits.input_tpm, limits.rpd, limits.input_tpd, limits.spend)
                ),
                1 if limits.adaptive else 0,
            )
        return found

    def _granted(self, wish: Wish, endpoint: Endpoint, started: float, calls: int, tokens: int) -> Grant:
        grants = self._replay.grants
        horizon = started - self._windows.whole
        while grants and grants[0][2] < horizon:
            grants.popleft()
        # Later than the store's own time, so that a replay keeps it in the window for longer rather than shorter.
        grants.append((wish.call_id, pool_name(endpoint), asyncio.get_running_loop().time(), wish.tokens))
        if calls >= 0:
            self._replay.days[pool_name(endpoint)] = (self._midnight, calls, tokens)
        # The store granted it after `started`, so it is at least as fresh as this.
        return Grant(wish.call_id, endpoint, started + self._windows.send_within)


def _info(wish: Wish) -> str:
    """What the ledger says of a call beside its endpoint and usage, kept apart by tabs."""
    fields = (wish.tenant_id, wish.person_id, wish.tier, _PRIORITY_NAMES[wish.priority])
    return "\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields)


def _calls_a_minute(limits: Limits, tokens: int) -> float:
    calls = float(limits.rpm or (60 if limits.adaptive else 1_000_000))
    if limits.input_tpm is not None:
        calls = min(calls, limits.input_tpm / max(tokens, 1))
    return calls
