"""Calls of this process that wait for quota. Their order is the limiter's and holds over the whole fleet;
here each one's caller is told its place, is given its grant, and gives its place up when it leaves."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from services.common import errors, logs
from services.llm import measures
from services.llm.catalogue import TierName
from services.llm.quota import (
    MOST_OFFERED,
    ComeLater,
    Grant,
    Limiter,
    LimiterUnavailable,
    Outcome,
    Place,
    Settlement,
    Wish,
)

log = logs.get(__name__)

# How often the waiting calls are offered at least: the fleet counts a member as absent, and passes its calls over,
# after 0.4 s.
_LONGEST_PAUSE = 0.1
_TELL_EVERY = 1.0
_SWEEP_EVERY = 0.2
_TOLD = 256


@dataclass(slots=True)
class Waiter:
    """One waiting call. `granted` is its grant, or a FocusError when it cannot make its deadline."""

    wish: Wish
    deadline: float
    place: Place
    granted: asyncio.Future[Grant]
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> tuple[float, str]:
        return self.wish.score, self.wish.entry


class WaitingRoom:
    """Waits at a limiter. `run` must be running."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._waiting: dict[TierName, list[Waiter]] = {"junior": [], "senior": []}
        self._news = asyncio.Event()
        self._left: set[asyncio.Task[None]] = set()

    async def enter(self, wish: Wish, deadline: float) -> Grant | Waiter | Outcome:
        """A grant or a waiter; `deadline` (loop time) is when the call must be on its way."""
        patience = deadline - asyncio.get_running_loop().time()
        asking = asyncio.ensure_future(self._limiter.acquire(wish, max(0.0, patience)))
        try:
            outcome = await asyncio.shield(asking)
        except asyncio.CancelledError:
            # The caller left while the limiter was being asked; what it answers is given back.
            self._left.add(back := asyncio.create_task(self._give_back(wish, asking)))
            back.add_done_callback(self._left.discard)
            raise
        if not isinstance(outcome, Place):
            return outcome
        waiter = Waiter(wish, deadline, outcome, asyncio.get_running_loop().create_future())
        bisect.insort(self._waiting[wish.tier], waiter, key=lambda one: one.key)
        self._news.set()
        return waiter

    async def leave(self, waiter: Waiter) -> None:
        """Gives the place up, or the grant that came meanwhile."""
        waiting = self._waiting[waiter.wish.tier]
        at = bisect.bisect_left(waiting, waiter.key, key=lambda one: one.key)
        if at < len(waiting) and waiting[at] is waiter:
            waiting.pop(at)
        granted = waiter.granted
        if not granted.done():
            granted.cancel()
        with suppress(LimiterUnavailable):
            if not granted.cancelled() and granted.exception() is None:
                grant = granted.result()
                await self._limiter.settle([Settlement(waiter.wish, grant.endpoint, "unsent")])
            else:
                await self._limiter.leave(waiter.wish.tier, [waiter.wish])

    async def _give_back(self, wish: Wish, asking: asyncio.Future[Outcome]) -> None:
        with suppress(LimiterUnavailable):
            outcome = await asking
            if isinstance(outcome, Grant):
                await self._limiter.settle([Settlement(wish, outcome.endpoint, "unsent")])
            elif isinstance(outcome, Place):
                await self._limiter.leave(wish.tier, [wish])

    @property
    def lengths(self) -> dict[TierName, int]:
        """How many of this process wait, by tier."""
        return {tier: len(waiting) for tier, waiting in self._waiting.items()}

    async def run(self) -> None:
        """Asks for the waiting until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run("junior"))
            group.create_task(self._run("senior"))

    async def _run(self, tier: TierName) -> None:
        loop = asyncio.get_running_loop()
        waiting = self._waiting[tier]
        told = swept = 0.0
        epoch = self._limiter.epoch
        while True:
            if not waiting:
                measures.WAITING.labels(tier).set(0)
                self._news.clear()
                await self._news.wait()
                continue
            try:
                if epoch != self._limiter.epoch:
                    epoch = self._limiter.epoch
                    await self._ask_anew(waiting)
                polled = await self._limiter.poll(tier, [waiter.wish for waiter in waiting[:MOST_OFFERED]])
                await self._hand_out(waiting, polled.granted)
                pause = min(polled.again, _LONGEST_PAUSE)
                if loop.time() - told >= _TELL_EVERY and waiting:
                    told = loop.time()
                    await self._tell(tier, waiting)
            except LimiterUnavailable:
                pause = 0.05
            except Exception as err:
                # Whoever waits must not wait for ever because of one of them.
                log.error("waiting calls could not be served", exc_info=err)
                pause = _LONGEST_PAUSE
            if loop.time() - swept >= _SWEEP_EVERY:
                swept = loop.time()
                self._give_up(waiting)
                measures.WAITING.labels(tier).set(len(waiting))
            if waiting:
                await asyncio.sleep(pause)

    async def _hand_out(self, waiting: list[Waiter], granted: Sequence[tuple[Wish, Grant]]) -> None:
        unused = []
        for wish, grant in granted:
            at = bisect.bisect_left(waiting, (wish.score, wish.entry), key=lambda one: one.key)
            waiter = waiting[at] if at < len(waiting) and waiting[at].wish is wish else None
            if waiter is not None:
                waiting.pop(at)
            if waiter is None or waiter.granted.done():
                unused.append(Settlement(wish, grant.endpoint, "unsent"))
            else:
                waiter.granted.set_result(grant)
                waiter.moved.set()
        if unused:
            await self._limiter.settle(unused)

    async def _tell(self, tier: TierName, waiting: list[Waiter]) -> None:
        asked = waiting[:_TOLD]
        places = await self._limiter.places(tier, [waiter.wish for waiter in asked])
        for waiter, place in zip(asked, places, strict=True):
            if place.position != waiter.place.position:
                waiter.place = place
                waiter.moved.set()

    def _give_up(self, waiting: list[Waiter]) -> None:
        now = asyncio.get_running_loop().time()
        for waiter in [one for one in waiting if one.deadline <= now or one.granted.done()]:
            waiting.remove(waiter)
            if not waiter.granted.done():
                waiter.granted.set_exception(exhausted(max(waiter.place.seconds, 1.0)))
                waiter.moved.set()

    async def _ask_anew(self, waiting: list[Waiter]) -> None:
        """The queue is another one now, or has forgotten: everybody queues again, in the old order."""
        before, waiting[:] = list(waiting), []
        for tier in {waiter.wish.tier for waiter in before}:
            with suppress(LimiterUnavailable):
                await self._limiter.leave(tier, [one.wish for one in before if one.wish.tier == tier])
        for waiter in before:
            if waiter.granted.done():
                continue
            # Its retry was paid for when it first came.
            waiter.wish.retry = False
            patience = max(waiter.deadline - asyncio.get_running_loop().time(), 0.0)
            # Who has a place keeps it, even if newcomers would be turned away.
            outcome = await self._limiter.acquire(waiter.wish, max(patience, 3600.0))
            if isinstance(outcome, Place):
                waiter.place = outcome
                bisect.insort(waiting, waiter, key=lambda one: one.key)
            elif isinstance(outcome, Grant):
                if waiter.granted.done():
                    await self._limiter.settle([Settlement(waiter.wish, outcome.endpoint, "unsent")])
                else:
                    waiter.granted.set_result(outcome)
            else:
                seconds = outcome.seconds if isinstance(outcome, ComeLater) else 2.0
                waiter.granted.set_exception(exhausted(seconds))
            waiter.moved.set()


def exhausted(seconds: float) -> errors.Exhausted:
    """What a caller is told who would not be served before its deadline."""
    return errors.Exhausted(
        f"All of the provider's quota is in use; come again in {max(1, round(seconds))} s.", retry_after=seconds
    )
