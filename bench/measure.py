"""CPU time of processes, percentiles, and one measured run of a load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import psutil

from bench import load
from bench.load import Load, Outcome


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. Latencies in milliseconds; CPU in milliseconds per request, by group of processes."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    requests: int
    failed: int
    answers: dict[str, int]
    cpu_ms: dict[str, float]

    @property
    def services_cpu_ms(self) -> float:
        """All groups but the stores and the upstream."""
        return sum(cpu for name, cpu in self.cpu_ms.items() if name in SERVICES)


SERVICES = ("gateway", "session", "cache", "llm", "constant")


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of processes with all their living descendants. Resolution: a clock tick."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    return total


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(one: Load, processes: Mapping[str, Sequence[int]]) -> Measured:
    """Sends the load and charges the CPU that each group used meanwhile to the requests that succeeded."""
    before = {name: cpu_seconds(pids) for name, pids in processes.items()}
    outcome: Outcome = load.run(one)
    after = {name: cpu_seconds(pids) for name, pids in processes.items()}
    answered = max(1, outcome.completed)
    return Measured(
        requests_per_second=outcome.completed / outcome.seconds,
        p50_ms=percentile(outcome.latencies, 0.50) * 1000,
        p99_ms=percentile(outcome.latencies, 0.99) * 1000,
        requests=outcome.completed,
        failed=outcome.failed,
        answers=outcome.answers,
        cpu_ms={name: (after[name] - before[name]) * 1000 / answered for name in processes},
    )


def middle(runs: Sequence[Measured]) -> Measured:
    """The median of each figure over several runs; counts are summed."""
    answers: dict[str, int] = {}
    for one in runs:
        for answer, count in one.answers.items():
            answers[answer] = answers.get(answer, 0) + count
    return Measured(
        requests_per_second=median(one.requests_per_second for one in runs),
        p50_ms=median(one.p50_ms for one in runs),
        p99_ms=median(one.p99_ms for one in runs),
        requests=sum(one.requests for one in runs),
        failed=sum(one.failed for one in runs),
        answers=answers,
        cpu_ms={name: median(one.cpu_ms[name] for one in runs) for name in runs[0].cpu_ms},
    )


def as_json(one: Measured) -> dict[str, object]:
    """For a results file."""
    return {**asdict(one), "services_cpu_ms": one.services_cpu_ms}
