"""The limiter within one process: for a deployment without a store, and for this process's own share
of every limit while the store is gone. It keeps the rules of `store/lua`, on this process's clock."""

from __future__ import annotations

import bisect
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.llm.catalogue import Catalogue, Limits, TierName
from services.llm.providers.port import Endpoint
from services.llm.quota import (
    ComeLater,
    Grant,
    Never,
    NoRetry,
    Outcome,
    Place,
    Polled,
    Settlement,
    Windows,
    Wish,
    midnights,
)

PACE = 1.06
BURST = 0.05
LEAST_BURST = 4
QUANTUM = 256
_CLASS = 1 << 42
_NEWCOMERS = 0.8


def burst_of(rpm: int) -> int:
    """How many calls may go out at once."""
    return max(min(LEAST_BURST, rpm), int(rpm * BURST))


@dataclass(slots=True)
class _Pool:
    log: deque[tuple[float, str]] = field(default_factory=deque)
    sizes: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    tat: float = float("-inf")
    ttat: float = float("-inf")
    cool: float = float("-inf")
    ceiling: float | None = None
    lowered: float = float("-inf")
    day: int = 0
    day_calls: int = 0
    day_tokens: int = 0
    refused: int = 0
    overshoots: int = 0


@dataclass(slots=True)
class _Queue:
    entries: list[tuple[int, int, Wish]] = field(default_factory=list)
    paid: dict[tuple[int, str], float] = field(default_factory=dict)
    round: dict[int, int] = field(default_factory=dict)


class MemoryLimiter:
    """`share`: the part of every limit that is this process's. `paced`: no burst, the first grant after one interval.

    `opens` (clock) is when a pool may be used first; `used` what its day had seen before.
    """

    def __init__(
        self,
        windows: Windows,
        catalogue: Callable[[], Catalogue],
        clock: Callable[[], float],
        *,
        share: float = 1.0,
        paced: bool = False,
        opens: Callable[[Limits], float] | None = None,
        used: Callable[[Endpoint], tuple[int, int, int]] | None = None,
        wall_clock: Callable[[], float] = time.time,
        most_waiting: int = 10_000,
    ) -> None:
        self._windows = windows
        self._catalogue = catalogue
        self._clock = clock
        self._share = share
        self._paced = paced
        self._opens = opens
        self._used = used
        self._wall_clock = wall_clock
        self._most_waiting = most_waiting
        self._pools: dict[Endpoint, _Pool] = {}
        self._spent: dict[str, deque[tuple[float, int, str]]] = {}
        self._queues: dict[TierName, _Queue] = {"junior": _Queue(), "senior": _Queue()}
        self._midnights = midnights(wall_clock())
        self._number = 0
        self._retries = 3.0
        # Events of the ledger, oldest first; whoever stores them empties it.
        self.settled: list[Settlement] = []
        self.epoch = 0

    async def acquire(self, wish: Wish, patience: float) -> Outcome:
        if wish.retry:
            if self._retries < 1:
                return NoRetry()
            self._retries -= 1
        queue = self._queues[wish.tier]
        account = (wish.priority, wish.tenant_id)
        begin = max(queue.round.get(wish.priority, 0) * QUANTUM, queue.paid.get(account, 0.0))
        paid = begin + max(wish.tokens, QUANTUM)
        score = wish.priority * _CLASS + math.ceil(paid / QUANTUM)
        ahead = bisect.bisect_right(queue.entries, score, key=lambda entry: entry[0])
        shortest, chosen = self._choose(wish, ahead)
        if chosen is not None and ahead == 0:
            return self._take(wish, chosen)
        if shortest == math.inf:
            return Never()
        first, _ = self._choose(wish, 0)
        rate = max(sum(self._rate(endpoint, wish.tokens) for endpoint in wish.endpoints), 1e-9)
        expected = first + ahead / rate
        if expected > patience * _NEWCOMERS or len(queue.entries) >= self._most_waiting:
            return ComeLater(max(0.25, first + max(0.0, ahead / rate - patience / 2)) + 1 / rate, expected)
        self._number += 1
        wish.entry, wish.score = f"{self._number:014d}", float(score)
        queue.paid[account] = paid
        bisect.insort(queue.entries, (score, self._number, wish), key=lambda entry: entry[:2])
        return Place(ahead + 1, expected)

    async def poll(self, tier: TierName, waiting: Sequence[Wish]) -> Polled:
        queue = self._queues[tier]
        granted = []
        again = 1.0
        while queue.entries:
            score, _, wish = queue.entries[0]
            wait, chosen = self._choose(wish, 0)
            if chosen is None:
                again = min(again, wait)
                break
            queue.entries.pop(0)
            queue.round[wish.priority] = int(score - wish.priority * _CLASS) - 1
            granted.append((wish, self._take(wish, chosen)))
        if not queue.entries:
            queue.paid.clear()
        return Polled(granted, max(0.001, again))

    async def places(self, tier: TierName, waiting: Sequence[Wish]) -> Sequence[Place]:
        entries = self._queues[tier].entries
        places = []
        for wish in waiting:
            found = _index(entries, wish)
            at = len(entries) if found is None else found
            rate = max(sum(self._rate(endpoint, wish.tokens) for endpoint in wish.endpoints), 1e-9)
            places.append(Place(at + 1, (at + 1) / rate))
        return places

    async def leave(self, tier: TierName, waiting: Sequence[Wish]) -> None:
        queue = self._queues[tier]
        for wish in waiting:
            at = _index(queue.entries, wish)
            if at is not None:
                queue.entries.pop(at)
                account = (wish.priority, wish.tenant_id)
                if account in queue.paid:
                    queue.paid[account] -= max(wish.tokens, QUANTUM)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        for settlement in settlements:
            pool = self._pool(settlement.endpoint)
            call_id = settlement.wish.call_id
            size = pool.sizes.get(call_id)
            spent = self._spent.get(settlement.endpoint.project)
            if settlement.outcome == "unsent":
                if size is not None:
                    pool.log = deque(entry for entry in pool.log if entry[1] != call_id)
                    del pool.sizes[call_id]
                    pool.tokens -= size
                    pool.day_calls -= 1
                    pool.day_tokens -= size
                self._correct(spent, call_id, 0)
                continue
            prompt = settlement.usage.prompt
            if size is not None and prompt > 0:
                pool.sizes[call_id] = prompt
                tpm = self._part(self._catalogue().limits(settlement.endpoint).input_tpm)
                if tpm:
                    pool.ttat += (prompt - size) * self._windows.whole / (tpm * PACE)
                pool.tokens += prompt - size
                pool.day_tokens += prompt - size
                pool.overshoots += prompt > size
            if settlement.outcome == "adjust":
                continue
            self._correct(spent, call_id, settlement.cost)
            limits = self._catalogue().limits(settlement.endpoint)
            if settlement.outcome == "done" and limits.adaptive:
                ceiling = pool.ceiling or limits.rpm or 60
                if len(pool.log) >= ceiling * 0.8:
                    pool.ceiling = ceiling + max(1.0, ceiling * 0.05) / ceiling
            self.settled.append(settlement)

    async def cool(self, endpoints: Sequence[Endpoint], seconds: float, *, lower: bool = False) -> None:
        now = self._clock()
        for endpoint in endpoints:
            pool = self._pool(endpoint)
            pool.cool = max(pool.cool, now + seconds)
            pool.refused += 1
            limits = self._catalogue().limits(endpoint)
            if lower and limits.adaptive and now - pool.lowered > self._windows.whole / 10:
                pool.ceiling = max(1.0, (pool.ceiling or limits.rpm or 60) * 0.7)
                pool.lowered = now

    @property
    def waiting(self) -> dict[TierName, int]:
        """How many wait, by tier."""
        return {tier: len(queue.entries) for tier, queue in self._queues.items()}

    def use(self, endpoint: Endpoint) -> dict[str, float]:
        """What a pool has used of its window and day, for operators."""
        pool = self._pool(endpoint)
        self._expire(pool)
        spent = self._spent.get(endpoint.project, ())
        return {
            "calls": len(pool.log),
            "tokens": pool.tokens,
            "cool": max(0.0, pool.cool - self._clock()) * 1000,
            "ceiling": pool.ceiling or 0,
            "overshoots": pool.overshoots,
            "refused": pool.refused,
            "day_calls": pool.day_calls,
            "day_tokens": pool.day_tokens,
            "spent": sum(entry[1] for entry in spent),
        }

    def _choose(self, wish: Wish, ahead: int) -> tuple[float, Endpoint | None]:
        shortest = math.inf
        for endpoint in wish.endpoints:
            wait = self._wait(endpoint, wish, ahead)
            if wait <= 0:
                return 0.0, endpoint
            shortest = min(shortest, wait)
        return shortest, None

    def _wait(self, endpoint: Endpoint, wish: Wish, ahead: int) -> float:
        pool, limits, now = self._pool(endpoint), self._catalogue().limits(endpoint), self._clock()
        self._expire(pool)
        window = self._windows.whole
        wait = max(0.0, pool.cool - now)
        rpm, tpm = self._rpm(pool, limits), self._part(limits.input_tpm)
        if tpm is not None and wish.tokens > tpm:
            return math.inf
        if rpm is not None:
            if rpm < ahead + 1:
                return math.inf if rpm == 0 else max(wait, window)
            over = len(pool.log) + ahead + 1 - rpm
            if over > 0:
                wait = max(wait, pool.log[over - 1][0] + window - now + 0.001 if over <= len(pool.log) else 0.05)
            burst = 1 if self._paced else burst_of(rpm)
            early = max(pool.tat, now) - now + (ahead - burst + 1) * self._interval(rpm)
            if early > 0.001:
                wait = max(wait, early)
        if tpm is not None:
            over = pool.tokens + wish.tokens - tpm
            if over > 0:
                wait = max(wait, min(window, max(0.002, window * over / tpm)))
            wait = max(wait, max(pool.ttat, now) - now - 2 * BURST * window)
        rpd, tpd = self._part(limits.rpd), self._part(limits.input_tpd)
        full_day = rpd is not None and pool.day_calls + ahead + 1 > rpd
        if full_day or (tpd is not None and pool.day_tokens + wish.tokens > tpd):
            wait = max(wait, self._midnights[2] / 1000 - self._wall_clock())
        cap = self._part(limits.spend)
        if cap is not None and self._spending(endpoint.project, now) + wish.cost > cap:
            wait = max(wait, self._windows.spend / 60)
        return wait

    def _take(self, wish: Wish, endpoint: Endpoint) -> Grant:
        pool, limits, now = self._pool(endpoint), self._catalogue().limits(endpoint), self._clock()
        pool.log.append((now, wish.call_id))
        pool.sizes[wish.call_id] = wish.tokens
        pool.tokens += wish.tokens
        pool.day_calls += 1
        pool.day_tokens += wish.tokens
        rpm, tpm = self._rpm(pool, limits), self._part(limits.input_tpm)
        if rpm:
            pool.tat = max(pool.tat, now) + self._interval(rpm)
        if tpm:
            pool.ttat = max(pool.ttat, now) + wish.tokens * self._windows.whole / (tpm * PACE)
        if limits.spend is not None:
            self._spent.setdefault(endpoint.project, deque()).append((now, wish.cost, wish.call_id))
        if not wish.retry:
            self._retries = min(10.0, self._retries + 0.2)
        return Grant(wish.call_id, endpoint, now + self._windows.send_within)

    def _pool(self, endpoint: Endpoint) -> _Pool:
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools[endpoint] = _Pool()
            limits = self._catalogue().limits(endpoint)
            rpm = self._rpm(pool, limits)
            if self._paced:
                opens = self._opens(limits) if self._opens is not None else self._clock()
                pool.cool = opens
                pool.tat = opens + (self._interval(rpm) if rpm else 0.0)
            pool.day = self._midnights[1]
            if self._used is not None:
                day, calls, tokens = self._used(endpoint)
                if day == pool.day:
                    # Of what the day has left, this process's share; so its use counts by the whole's measure.
                    pool.day_calls = int(calls * self._share) + 1
                    pool.day_tokens = int(tokens * self._share) + 1
        if self._wall_clock() * 1000 >= self._midnights[2]:
            self._midnights = midnights(self._wall_clock())
        if pool.day != self._midnights[1]:
            pool.day, pool.day_calls, pool.day_tokens = self._midnights[1], 0, 0
        return pool

    def _expire(self, pool: _Pool) -> None:
        begin = self._clock() - self._windows.whole
        while pool.log and pool.log[0][0] <= begin:
            pool.tokens -= pool.sizes.pop(pool.log.popleft()[1], 0)

    def _rpm(self, pool: _Pool, limits: Limits) -> int | None:
        if limits.adaptive:
            return int((pool.ceiling or limits.rpm or 60) * self._share)
        return self._part(limits.rpm)

    def _part(self, limit: int | None) -> int | None:
        return None if limit is None else int(limit * self._share)

    def _interval(self, rpm: int) -> float:
        return self._windows.whole / (rpm * (1.0 if self._paced else PACE))

    def _rate(self, endpoint: Endpoint, tokens: int) -> float:
        pool, limits = self._pool(endpoint), self._catalogue().limits(endpoint)
        rpm, tpm = self._rpm(pool, limits), self._part(limits.input_tpm)
        calls = 1_000_000.0 if rpm is None else float(rpm)
        if tpm is not None:
            calls = min(calls, tpm / max(tokens, 1))
        return calls / self._windows.whole

    def _spending(self, project: str, now: float) -> int:
        spent = self._spent.get(project)
        if not spent:
            return 0
        while spent and spent[0][0] <= now - self._windows.spend:
            spent.popleft()
        return sum(entry[1] for entry in spent)

    @staticmethod
    def _correct(spent: deque[tuple[float, int, str]] | None, call_id: str, cost: int) -> None:
        for at, entry in enumerate(spent or ()):
            if entry[2] == call_id:
                assert spent is not None
                spent[at] = (entry[0], cost, call_id)
                return


def _index(entries: list[tuple[int, int, Wish]], wish: Wish) -> int | None:
    """Where the wish stands; None if it does not, for instance because its place is one in the store's queue."""
    if not wish.entry.isdigit():
        return None
    at = bisect.bisect_left(entries, (int(wish.score), int(wish.entry)), key=lambda entry: entry[:2])
    return at if at < len(entries) and entries[at][2] is wish else None
