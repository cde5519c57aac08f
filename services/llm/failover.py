"""The fleet's limiter while its store answers, and this process's leased share of every limit while it does not.

Why the fleet stays under its limits then is argued in `docs/quota.md`; in short:

1. Shares never add up to more than the whole, and a silent member stays debited its share.
2. Grants of the store are paced. What is left of them in the provider's window u windows after the store was
   lost is at most (1 - u) of the limit times the pace, and its bursts. So the shares open only when that much
   and what they give themselves, evenly paced and without bursts, fit under the limit together.
3. Only a server that is surely gone (refused, reset, loading) opens them at once. One that is merely silent may
   be serving others: then the share opens after the others have begun to debit it.
4. Coming back, everybody first tells the store what he was granted in the last window.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.common import logs
from services.llm import measures, memory
from services.llm.catalogue import Catalogue, Limits, TierName
from services.llm.memory import MemoryLimiter
from services.llm.providers.port import Endpoint
from services.llm.quota import (
    Grant,
    Limiter,
    LimiterUnavailable,
    NoShare,
    Outcome,
    Place,
    Polled,
    Settlement,
    Windows,
    Wish,
    midnights,
    pool_name,
)
from services.llm.store.limiter import Membership, Replay, ValkeyLimiter

log = logs.get(__name__)

ResultT = TypeVar("ResultT")
# Seconds that a share opens later than others debit it.
_MARGIN = 1.0
_MOST_UNSETTLED = 50_000


class FleetLimiter:
    """The limiter that the service uses: exact over the fleet, or over this process's share."""

    def __init__(
        self,
        store: ValkeyLimiter,
        windows: Windows,
        membership: Membership,
        catalogue: Callable[[], Catalogue],
        replay: Replay,
    ) -> None:
        self.store = store
        self._windows = windows
        self._membership = membership
        self._catalogue = catalogue
        self._replay = replay
        self._local: MemoryLimiter | None = None
        self._lost_at = 0.0
        self._unsettled: list[Settlement] = []
        self._switches = 0

    @property
    def local(self) -> bool:
        """True while the store is gone."""
        return self._local is not None

    async def acquire(self, wish: Wish, patience: float) -> Outcome:
        if self._local is None:
            try:
                return await self.store.acquire(wish, patience)
            except LimiterUnavailable:
                self._lost()
        local = self._own_share()
        if local is None:
            return NoShare()
        return self._recorded(await local.acquire(wish, patience), wish)

    async def poll(self, tier: TierName, waiting: Sequence[Wish]) -> Polled:
        local = self._local
        if local is None:
            try:
                return await self.store.poll(tier, waiting)
            except LimiterUnavailable:
                self._lost()
                return Polled((), 0.01)
        polled = await local.poll(tier, waiting)
        for wish, grant in polled.granted:
            self._recorded(grant, wish)
        return polled

    async def places(self, tier: TierName, waiting: Sequence[Wish]) -> Sequence[Place]:
        return await self._now.places(tier, waiting)

    async def leave(self, tier: TierName, waiting: Sequence[Wish]) -> None:
        await self._now.leave(tier, waiting)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Kept, and entered into the store when it is back, where it is gone."""
        if self._local is None:
            try:
                await self.store.settle(settlements)
                return
            except LimiterUnavailable:
                self._lost()
        if self._local is not None:
            await self._local.settle(settlements)
            self._local.settled.clear()
        self._unsettled += [one for one in settlements if one.outcome != "adjust"]
        del self._unsettled[:-_MOST_UNSETTLED]

    async def cool(self, endpoints: Sequence[Endpoint], seconds: float, *, lower: bool = False) -> None:
        try:
            await self._now.cool(endpoints, seconds, lower=lower)
        except LimiterUnavailable:
            self._lost()

    async def keep(self) -> None:
        """Beats while the store answers, tries to get back to it while it does not; until cancelled."""
        while True:
            try:
                await self.store.beat()
                if self._local is not None:
                    log.info("the quota's store is back", seconds=round(self._time() - self._lost_at, 1))
                    self._local = None
                    self._switches += 1
                    measures.LOCAL.set(0)
                if self._unsettled:
                    batch = self._unsettled[:200]
                    await self.store.settle(batch)
                    del self._unsettled[: len(batch)]
                    continue
            except LimiterUnavailable:
                self._lost()
            await asyncio.sleep(0.2 if self._local is not None else 0.5)

    @property
    def own(self) -> MemoryLimiter | None:
        """The limiter over this process's share, while it is in use."""
        return self._local

    @property
    def epoch(self) -> int:
        """Grows whenever places in the queue may have been lost, and whoever waits must ask anew."""
        return self._switches + self.store.epoch

    @property
    def _now(self) -> Limiter:
        return self.store if self._local is None else self._local

    def _lost(self) -> None:
        if self._local is not None:
            return
        self._lost_at = self._time()
        measures.LOCAL.set(1)
        self._switches += 1
        log.warning(
            "the quota's store is lost, living on this process's share",
            share=round(self.store.share, 4),
            gone=self.store.gone,
        )
        self._local = MemoryLimiter(
            self._windows,
            self._catalogue,
            self._time,
            share=self.store.share,
            paced=True,
            opens=self._opens,
            used=self._used,
            wall_clock=time.time,
        )

    def _own_share(self) -> MemoryLimiter | None:
        """The local limiter while the share's lease lasts."""
        if self._local is None or self.store.share <= 0:
            return None
        if self._time() - self.store.heard > self._membership.lease:
            return None
        return self._local

    def _opens(self, limits: Limits) -> float:
        """When this process may begin to use its share of a pool."""
        begin = self._lost_at
        if not self.store.gone:
            begin = max(begin, self.store.heard) + self._membership.silent + _MARGIN
        if limits.rpm is None or limits.adaptive:
            return begin
        # Two bursts: one of the pace, one that a store may have granted anew after it restarted.
        left = 2 * memory.burst_of(limits.rpm) / limits.rpm + memory.PACE - 1
        return begin + self._windows.whole * min(1.0, left / memory.PACE)

    def _used(self, endpoint: Endpoint) -> tuple[int, int, int]:
        """What a pool's day has seen at most: as the store said last, and what pacing allowed since."""
        midnight, calls, tokens = self._replay.days.get(pool_name(endpoint), (0, 0, 0))
        limits = self._catalogue().limits(endpoint)
        since = self._time() - self._lost_at + 1.0
        if limits.rpm is not None:
            calls += memory.burst_of(limits.rpm) + int(limits.rpm * memory.PACE * since / self._windows.whole)
        if limits.input_tpm is not None:
            part = 2 * memory.BURST + memory.PACE * since / self._windows.whole
            tokens += int(limits.input_tpm * part)
        return midnight, calls, tokens

    def _recorded(self, outcome: Outcome, wish: Wish) -> Outcome:
        if isinstance(outcome, Grant):
            self._replay.grants.append((wish.call_id, pool_name(outcome.endpoint), self._time(), wish.tokens))
            pool = pool_name(outcome.endpoint)
            midnight = midnights(time.time())[1]
            before, calls, tokens = self._replay.own.get(pool, (midnight, 0, 0))
            if before != midnight:
                calls, tokens = 0, 0
            self._replay.own[pool] = (midnight, calls + 1, tokens + wish.tokens)
            self._replay.days.setdefault(pool, (midnight, 0, 0))
        return outcome

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()
