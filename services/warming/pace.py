"""How much warming may ask of the provider, and when it must be still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time

from focus.llm.v1.llm_pb2 import ShowQuotaResponse

# A question may take the junior and then the senior.
CALLS_PER_ANSWER = 2


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the quota leaves for warming."""

    # Calls a minute; 0: none now.
    per_minute: float
    # Calls for the rest of the day; None: no limit.
    today: int | None
    # Why there is none, as a sentence; empty where there is some.
    why: str = ""


def allowance(quota: ShowQuotaResponse, share: float, unlimited: float) -> Allowance:
    """Warming's part: `share` of all limits, and nothing while others need what is left.

    `unlimited` is the pace in calls a minute where the limits are unknown.
    """
    if quota.local:
        return Allowance(0, None, "the quota's store cannot be reached")
    if any(queue.interactive or queue.batch or queue.expected for queue in quota.queues):
        return Allowance(0, None, "others wait for quota")
    pools = [pool for pool in quota.pools if not pool.cool_down_ms]
    if quota.pools and not pools:
        return Allowance(0, None, "the provider refuses for now")
    limited = [pool for pool in pools if pool.calls_limit]
    today = None
    if any(pool.day_calls_limit for pool in pools):
        limit, used = sum(pool.day_calls_limit for pool in pools), sum(pool.day_calls for pool in pools)
        # A share of what is left: an earlier run of the same day has taken its own.
        today = int(share * max(0, limit - used))
        if today < CALLS_PER_ANSWER:
            return Allowance(0, 0, "today's quota is all but used up")
    if not limited:
        return Allowance(unlimited, today)
    for pool in limited:
        if pool.calls > (1 - share) * pool.calls_limit:
            return Allowance(0, today, "the minute's quota is almost used up")
        if pool.input_tokens_limit and pool.input_tokens > (1 - share) * pool.input_tokens_limit:
            return Allowance(0, today, "the minute's tokens are almost used up")
    # The scarcest model sets the pace: an answer may need each of them.
    return Allowance(share * min(pool.calls_limit for pool in limited), today)


class Pace:
    """Spreads answers evenly, so that no minute holds more than its share."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = 0.0
        self.calls = 0

    def wait(self, per_minute: float) -> float:
        """Seconds until the next answer may be asked for."""
        return max(0.0, self._next - self._clock()) if per_minute > 0 else float("inf")

    def asked(self, per_minute: float, calls: int) -> None:
        """An answer took so many calls."""
        self.calls += calls
        self._next = max(self._next, self._clock()) + 60 * calls / per_minute


def within(between: str, now: datetime) -> bool:
    """True within hours such as `22:00-05:30`; always for an empty text."""
    if not between:
        return True
    first, last = (time.fromisoformat(part) for part in between.split("-"))
    clock = now.time()
    return first <= clock < last if first <= last else clock >= first or clock < last
