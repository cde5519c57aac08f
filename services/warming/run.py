"""One run over all questions, at the pace that the quota leaves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from focus.llm.v1.llm_pb2 import ShowQuotaResponse
from services.common.errors import Exhausted, FocusError
from services.warming.pace import CALLS_PER_ANSWER, Allowance, Pace, allowance, within
from services.warming.questions import Popular
from services.warming.warmer import Warmed, Warmer

# How often the quota is asked about, and how long a pause is.
_LOOK_SECONDS = 5.0
# Failures in a row after which the provider is left alone.
_MOST_FAILURES = 5


class Quota(Protocol):
    """What is left of the provider's quota. Raises FocusError."""

    async def quota(self) -> ShowQuotaResponse: ...


class Run:
    """Warms each question once. `tell` is told done, all, and what was said last."""

    def __init__(
        self,
        warmer: Warmer,
        quota: Quota,
        *,
        share: float,
        unlimited: float,
        between: str = "",
        tell: Callable[[int, int, str], None],
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._warmer = warmer
        self._quota = quota
        self._share = share
        self._unlimited = unlimited
        self._between = between
        self._tell = tell
        self._look_seconds = look_seconds
        self._pace = Pace(time.monotonic)
        self._allowance = Allowance(0, None)
        self._looked = float("-inf")
        self._today: int | None = None

    async def warm(self, questions: Sequence[Popular]) -> Counter[str]:
        """What became of the questions, by `Warmed` and `failed`; `left`: the hours or the day's share ended."""
        outcome: Counter[str] = Counter()
        failures = 0
        for done, one in enumerate(questions):
            self._tell(done, len(questions), "")
            if failures >= _MOST_FAILURES or not await self._may_go_on(done, len(questions)):
                outcome["left"] = len(questions) - done
                break
            try:
                outcome[(await self._one(one)).value] += 1
                failures = 0
            except Exhausted:
                # Told to come again: the next look at the quota says when.
                outcome["failed"] += 1
                self._looked = float("-inf")
            except FocusError:
                outcome["failed"] += 1
                failures += 1
        else:
            self._tell(len(questions), len(questions), "")
        return outcome

    async def _one(self, one: Popular) -> Warmed:
        found = await self._warmer.find(one)
        if isinstance(found, Warmed):
            return found
        # Paid for before it is known what it takes: never above the share.
        self._pace.asked(self._allowance.per_minute, CALLS_PER_ANSWER)
        warmed, _ = await self._warmer.generate(one, found)
        return warmed

    async def _may_go_on(self, done: int, total: int) -> bool:
        """Waits for pace, quota and hours; False when the day's share is used up or the hours are over."""
        waited_for_hours = done == 0
        while True:
            if not within(self._between, datetime.now(UTC)):
                if not waited_for_hours:
                    return False
                self._tell(done, total, f"waiting for {self._between} UTC")
                await asyncio.sleep(self._look_seconds)
                continue
            if time.monotonic() - self._looked > self._look_seconds:
                self._allowance = await self._look()
                self._looked = time.monotonic()
            if self._today is not None and self._pace.calls + CALLS_PER_ANSWER > self._today:
                self._tell(done, total, "today's share is used up")
                return False
            pause = self._pace.wait(self._allowance.per_minute)
            if not pause:
                return True
            if self._allowance.why:
                self._tell(done, total, f"waiting: {self._allowance.why}")
            await asyncio.sleep(min(pause, self._look_seconds))

    async def _look(self) -> Allowance:
        try:
            found = allowance(await self._quota.quota(), self._share, self._unlimited)
        except FocusError as err:
            return Allowance(0, None, err.message)
        if self._today is None:
            # What the first look leaves is this run's; its own calls count against it.
            self._today = found.today
        return found
