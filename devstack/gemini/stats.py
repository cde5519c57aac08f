"""Exact counts of what arrived, for tests that must prove what a caller sent.

"Admitted" is a request that passed key, body and quota; refused ones are counted by status. Windows have the length of
the quota minute. Peaks are kept as requests arrive, so they are exact over the whole run however long it is.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

UNKNOWN_KEY = "(unknown)"


@dataclass(slots=True)
class Window:
    """Counts of one (project, model, key) in one fixed window."""

    arrivals: int = 0
    admitted: int = 0
    refused_429: int = 0
    input_tokens: int = 0


@dataclass(slots=True)
class Peak:
    """Most requests and input tokens in any sliding and any fixed window."""

    sliding: deque[tuple[float, int]] = field(default_factory=deque)
    sliding_tokens: int = 0
    max_sliding: int = 0
    max_sliding_tokens: int = 0
    fixed_number: int = -1
    fixed: int = 0
    fixed_tokens: int = 0
    max_fixed: int = 0
    max_fixed_tokens: int = 0

    def count(self, now: float, tokens: int, window_seconds: float) -> None:
        """Adds one request at ``now``."""
        self.sliding.append((now, tokens))
        self.sliding_tokens += tokens
        begin = now - window_seconds
        while self.sliding[0][0] <= begin:
            self.sliding_tokens -= self.sliding.popleft()[1]
        self.max_sliding = max(self.max_sliding, len(self.sliding))
        self.max_sliding_tokens = max(self.max_sliding_tokens, self.sliding_tokens)
        number = int(now // window_seconds)
        if number != self.fixed_number:
            self.fixed_number, self.fixed, self.fixed_tokens = number, 0, 0
        self.fixed += 1
        self.fixed_tokens += tokens
        self.max_fixed = max(self.max_fixed, self.fixed)
        self.max_fixed_tokens = max(self.max_fixed_tokens, self.fixed_tokens)

    def maxima(self) -> dict[str, int]:
        """The peaks as JSON."""
        return {
            "sliding_requests": self.max_sliding,
            "fixed_requests": self.max_fixed,
            "sliding_input_tokens": self.max_sliding_tokens,
            "fixed_input_tokens": self.max_fixed_tokens,
        }


@dataclass(slots=True)
class Totals:
    """Counts of one (project, model)."""

    arrivals: int = 0
    admitted: int = 0
    completed: int = 0
    cancelled: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int = 0
    first_arrival: float | None = None
    last_arrival: float | None = None


class Stats:
    """The recorder. ``in_flight`` counts calls from arrival to the end of their delivery."""

    def __init__(self, *, window_seconds: float, arrivals_kept: int, clock: Callable[[], float]) -> None:
        self.window_seconds = window_seconds
        self._kept = arrivals_kept
        self._clock = clock
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything but the calls that are under way."""
        self.max_in_flight = self.in_flight
        self.arrivals: deque[tuple[float, str, str, str, int]] = deque(maxlen=self._kept)
        self.totals: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)
        self.windows: defaultdict[tuple[str, str, str, int], Window] = defaultdict(Window)
        self.peaks: defaultdict[tuple[str, str], Peak] = defaultdict(Peak)
        self.all_peaks: defaultdict[tuple[str, str], Peak] = defaultdict(Peak)

    def enter(self) -> None:
        """A call has arrived."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def leave(self) -> None:
        """A call is over, however it ended."""
        self.in_flight -= 1

    def decided(self, project: str, model: str, key: str, status: int, tokens: int) -> None:
        """The fate of an arrival: 200 when it was admitted, else the status of its refusal."""
        now = self._clock()
        self.arrivals.append((now, project, model, key, status))
        total = self.totals[project, model]
        total.arrivals += 1
        total.statuses[status] = total.statuses.get(status, 0) + 1
        if total.first_arrival is None:
            total.first_arrival = now
        total.last_arrival = now
        window = self.windows[project, model, key, int(now // self.window_seconds)]
        window.arrivals += 1
        self.all_peaks[project, model].count(now, tokens, self.window_seconds)
        if status == 429:
            window.refused_429 += 1
        elif status == 200:
            total.admitted += 1
            window.admitted += 1
            window.input_tokens += tokens
            self.peaks[project, model].count(now, tokens, self.window_seconds)

    def answered(self, project: str, model: str, prompt: int, cached: int, output: int, thoughts: int) -> None:
        """A call was delivered to its end; tokens as its usage states them, ``output`` without thoughts."""
        total = self.totals[project, model]
        total.completed += 1
        total.input_tokens += prompt
        total.cached_tokens += cached
        total.output_tokens += output
        total.thought_tokens += thoughts

    def cancelled(self, project: str, model: str) -> None:
        """The caller left before the end."""
        self.totals[project, model].cancelled += 1

    def report(self) -> dict[str, Any]:
        """Everything but the list of arrivals, as JSON."""
        return {
            "now": self._clock(),
            "window_seconds": self.window_seconds,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "arrivals": sum(total.arrivals for total in self.totals.values()),
            "admitted": sum(total.admitted for total in self.totals.values()),
            "refused_429": sum(total.statuses.get(429, 0) for total in self.totals.values()),
            "cancelled": sum(total.cancelled for total in self.totals.values()),
            "models": [
                {
                    "project": project,
                    "model": model,
                    "arrivals": total.arrivals,
                    "admitted": total.admitted,
                    "completed": total.completed,
                    "cancelled": total.cancelled,
                    "statuses": {str(status): count for status, count in sorted(total.statuses.items())},
                    "input_tokens": total.input_tokens,
                    "cached_tokens": total.cached_tokens,
                    "output_tokens": total.output_tokens,
                    "thought_tokens": total.thought_tokens,
                    "first_arrival": total.first_arrival,
                    "last_arrival": total.last_arrival,
                    "max_admitted_in_window": self.peaks[project, model].maxima(),
                    "max_arrivals_in_window": self.all_peaks[project, model].maxima(),
                }
                for (project, model), total in self.totals.items()
            ],
            "windows": [
                {
                    "project": project,
                    "model": model,
                    "key": key,
                    "begins": number * self.window_seconds,
                    "arrivals": window.arrivals,
                    "admitted": window.admitted,
                    "refused_429": window.refused_429,
                    "input_tokens": window.input_tokens,
                }
                for (project, model, key, number), window in self.windows.items()
            ],
        }

    def arrival_list(self, since: float) -> list[dict[str, Any]]:
        """The newest arrivals from ``since`` (seconds since the epoch), oldest first."""
        return [
            {"at": at, "project": project, "model": model, "key": key, "status": status}
            for at, project, model, key, status in self.arrivals
            if at >= since
        ]
