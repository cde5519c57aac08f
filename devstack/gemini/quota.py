"""Quota per (project, model), counted when a request arrives, as Google counts it.

A project's keys share its quota. Sliding windows hold what arrived in the last ``window_seconds``; fixed windows begin
at multiples of ``window_seconds`` since the epoch. Days end at midnight Pacific time, summer time included. A refused
request uses up nothing. Times are seconds since the epoch.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from devstack.gemini.errors import Violation
from devstack.gemini.settings import Limit, Limits, WindowKind

FREE_TIER_TOKENS_PER_DAY = 1_000_000
PACIFIC = ZoneInfo("America/Los_Angeles")

# dimension -> (metric, quota id) for paid projects; the free tier has names of its own.
PAID_NAMES = {
    "rpm": ("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel"),
    "tpm": ("generate_content_paid_tier_input_token_count", "GenerateContentPaidTierInputTokensPerModelPerMinute"),
    "rpd": ("generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel"),
    "tpd": ("generate_content_paid_tier_input_token_count", "GenerateContentPaidTierInputTokensPerModelPerDay"),
}
FREE_NAMES = {
    "rpm": ("generate_content_free_tier_requests", "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
    "tpm": ("generate_content_free_tier_input_token_count", "GenerateContentInputTokensPerModelPerMinute-FreeTier"),
    "rpd": ("generate_content_free_tier_requests", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
    "tpd": ("generate_content_free_tier_input_token_count", "GenerateContentInputTokensPerModelPerDay-FreeTier"),
}


def pacific_midnight_after(now: float) -> float:
    """The instant at which the day's quotas reset next."""
    local = datetime.fromtimestamp(now, PACIFIC)
    tomorrow = local.date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=PACIFIC).timestamp()


@dataclass(slots=True)
class Meter:
    """What one (project, model) has used."""

    limit: Limit
    window: deque[tuple[float, int]] = field(default_factory=deque)
    window_tokens: int = 0
    day_ends: float = 0.0
    day_requests: int = 0
    day_tokens: int = 0


class Quota:
    """Admits or refuses requests. Not thread-safe: it lives on the event loop."""

    def __init__(
        self,
        limits: Limits,
        *,
        window_seconds: float,
        window_kind: WindowKind,
        free_tier: bool,
        clock: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.window_seconds = window_seconds
        self.window_kind = window_kind
        self.free_tier = free_tier
        self._clock = clock
        self._meters: dict[tuple[str, str], Meter] = {}

    def reset(self) -> None:
        """Forgets all use, and applies limits that have changed."""
        self._meters.clear()

    def change(self, limits: Limits) -> None:
        """Puts new limits in force without forgetting what was used."""
        self.limits = limits
        for (project, model), meter in self._meters.items():
            meter.limit = self.limit_of(project, model)

    def limit_of(self, project: str, model: str) -> Limit:
        """The first limit whose patterns fit; without one there is no limit."""
        limit = Limit()
        for project_pattern, by_model in self.limits.items():
            if not fnmatchcase(project, project_pattern):
                continue
            fitting = next((one for pattern, one in by_model.items() if fnmatchcase(model, pattern)), None)
            if fitting is not None:
                limit = fitting
                break
        if self.free_tier and limit.tpd is None:
            limit = limit.model_copy(update={"tpd": FREE_TIER_TOKENS_PER_DAY})
        return limit

    def admit(self, project: str, model: str, tokens: int) -> list[Violation]:
        """Counts a request of ``tokens`` input tokens, or returns every quota that it would exceed."""
        meter = self._meters.get((project, model))
        if meter is None:
            meter = self._meters[project, model] = Meter(self.limit_of(project, model))
        now = self._clock()
        self._expire(meter, now)
        limit = meter.limit
        violations: list[Violation] = []
        if limit.rpm is not None and len(meter.window) >= limit.rpm:
            violations.append(self._violation("rpm", limit.rpm, self._wait_for_request(meter, limit.rpm, now)))
        if limit.tpm is not None and meter.window_tokens + tokens > limit.tpm:
            violations.append(self._violation("tpm", limit.tpm, self._wait_for_tokens(meter, tokens, limit.tpm, now)))
        if limit.rpd is not None and meter.day_requests >= limit.rpd:
            violations.append(self._violation("rpd", limit.rpd, meter.day_ends - now))
        if limit.tpd is not None and meter.day_tokens + tokens > limit.tpd:
            violations.append(self._violation("tpd", limit.tpd, meter.day_ends - now))
        if violations:
            return violations
        meter.window.append((now, tokens))
        meter.window_tokens += tokens
        meter.day_requests += 1
        meter.day_tokens += tokens
        return violations

    def invented(self, project: str, model: str, dimension: str) -> Violation:
        """A violation of ``rpm``, ``tpm``, ``rpd`` or ``tpd`` for a fault, though the quota has room."""
        now = self._clock()
        value = getattr(self.limit_of(project, model), dimension) or 0
        wait = pacific_midnight_after(now) - now if dimension in ("rpd", "tpd") else self.window_seconds / 2
        return self._violation(dimension, value, wait)

    def use(self) -> list[dict[str, object]]:
        """What each (project, model) has used of its present windows."""
        now = self._clock()
        rows: list[dict[str, object]] = []
        for (project, model), meter in self._meters.items():
            self._expire(meter, now)
            rows.append(
                {
                    "project": project,
                    "model": model,
                    "limit": meter.limit.model_dump(),
                    "minute_requests": len(meter.window),
                    "minute_tokens": meter.window_tokens,
                    "day_requests": meter.day_requests,
                    "day_tokens": meter.day_tokens,
                }
            )
        return rows

    def _expire(self, meter: Meter, now: float) -> None:
        window = meter.window
        if self.window_kind == "sliding":
            begin = now - self.window_seconds
            while window and window[0][0] <= begin:
                meter.window_tokens -= window.popleft()[1]
        elif window and window[-1][0] // self.window_seconds != now // self.window_seconds:
            # All entries of a fixed window are of one window: they go together.
            window.clear()
            meter.window_tokens = 0
        if now >= meter.day_ends:
            meter.day_ends = pacific_midnight_after(now)
            meter.day_requests = 0
            meter.day_tokens = 0

    def _window_end(self, now: float) -> float:
        return (now // self.window_seconds + 1) * self.window_seconds - now

    def _wait_for_request(self, meter: Meter, rpm: int, now: float) -> float:
        if self.window_kind == "fixed" or not rpm:
            return self._window_end(now) if self.window_kind == "fixed" else self.window_seconds
        return meter.window[len(meter.window) - rpm][0] + self.window_seconds - now

    def _wait_for_tokens(self, meter: Meter, tokens: int, tpm: int, now: float) -> float:
        if self.window_kind == "fixed":
            return self._window_end(now)
        excess = meter.window_tokens + tokens - tpm
        for arrived, used in meter.window:
            excess -= used
            if excess <= 0:
                return arrived + self.window_seconds - now
        return self.window_seconds

    def _violation(self, dimension: str, value: int, wait: float) -> Violation:
        metric, quota_id = (FREE_NAMES if self.free_tier else PAID_NAMES)[dimension]
        return Violation(metric, quota_id, value, max(wait, 0.0))


class SpendCap:
    """A cap on what a project spends over a rolling window; answered requests count, with their real usage."""

    def __init__(
        self,
        cap_usd: float | None,
        window_seconds: float,
        prices: dict[str, tuple[float, float]],
        clock: Callable[[], float],
    ) -> None:
        self.cap_usd = cap_usd
        self.window_seconds = window_seconds
        self._prices = prices
        self._clock = clock
        self._spent: dict[str, deque[tuple[float, float]]] = {}

    def reset(self) -> None:
        """Forgets what was spent."""
        self._spent.clear()

    def reached(self, project: str) -> bool:
        """True when the project may spend no more at present."""
        return self.cap_usd is not None and self.spent(project) >= self.cap_usd * 1e6

    def book(self, project: str, model: str, tokens_in: int, tokens_out: int) -> None:
        """Counts an answer; nothing is kept while there is no cap."""
        if self.cap_usd is None:
            return
        price_in, price_out = self._prices.get(model, (0.0, 0.0))
        cost = tokens_in * price_in + tokens_out * price_out
        self._spent.setdefault(project, deque()).append((self._clock(), cost))

    def spent(self, project: str) -> float:
        """Micro-dollars within the window."""
        entries = self._spent.get(project)
        if not entries:
            return 0.0
        begin = self._clock() - self.window_seconds
        while entries and entries[0][0] <= begin:
            entries.popleft()
        return sum(cost for _, cost in entries)
