"""Turns of conversations at the session service alone: what the order and the safety of turns cost.

1. Begin and commit, uncontended, beside their bare parts: two empty calls to the same
   server and two trivial statements on a bare asyncpg connection. CPU of the process.
2. Statements and round trips of PostgreSQL, and Valkey's commands, counted on the wire.
3. The same with more and more conversations, and with more and more turns in one.
4. Forty waiters of one conversation beside redis-py's Lock and pg_advisory_xact_lock, which
   store nothing, and the latter with a row that each waiter brings to the disk as a turn does.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench import queues, results
from bench.measure import cpu_seconds, percentile
from bench.queues import Queue
from bench.session import Caller, House, calling, running
from devstack.services import Service

Call = Callable[[], Awaitable[object]]

_AT_ONCE = 4
_TURNS_EACH = 10
# History of two turns of those that `House.fill` makes, so that the same is read whatever there is.
_BUDGET = 60


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU in milliseconds for each call or turn, and its latency in milliseconds."""

    session_ms: float
    postgres_ms: float
    p50_ms: float
    p99_ms: float


def main(arguments: list[str]) -> int:
    """Exit status 1 if a turn takes more than two statements or round trips, or asks Valkey."""
    parser = argparse.ArgumentParser(prog="python -m bench turns", description=__doc__)
    parser.add_argument("--turns", type=int, default=1500, help="turns of a measurement (1500)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (3)")
    parser.add_argument("--conversations", type=int, default=1_000_000, help="most conversations (1000000)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="focus-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # PostgreSQL's account must get in
        return asyncio.run(_measure(home, options.turns, options.rounds, options.conversations))


async def _measure(home: Path, turns: int, rounds: int, most: int) -> int:
    async with running(home) as house:
        counts = await _counted(house)
        costs = await _costs(house, turns, rounds)
        waiting = {
            "turns, one process": [await queues.turns(house, 1) for _ in range(rounds)],
            "turns, three processes": [await queues.turns(house, 3) for _ in range(rounds)],
            "redis-py Lock": [await queues.redis_lock(house, 0.1) for _ in range(rounds)],
            "redis-py Lock, sleep=0.005": [await queues.redis_lock(house, 0.005) for _ in range(rounds)],
            "pg_advisory_xact_lock": [await queues.advisory_lock(house, writing=False) for _ in range(rounds)],
            "pg_advisory_xact_lock + row": [await queues.advisory_lock(house, writing=True) for _ in range(rounds)],
        }
        lengths = await _lengths(house)
        sizes = await _sizes(house, turns, most)
    ratio = costs["begin + commit"].session_ms / _bare(costs)
    _tell(costs, ratio, counts, sizes, lengths, waiting)
    saved = {
        "costs": {name: asdict(cost) for name, cost in costs.items()},
        "ratio": ratio,
        "per_turn": counts,
        "by_conversations": {str(size): asdict(cost) for size, cost in sizes.items()},
        "by_turns": {str(length): asdict(cost) for length, cost in lengths.items()},
        "forty_waiters": {name: [asdict(run) for run in runs] for name, runs in waiting.items()},
    }
    print(f"saved in {results.save('turns', saved)}")
    return int(counts["statements"] > 2 or counts["round trips"] > 2 or counts["Valkey commands"] > 0)


async def _run(house: House, service: Service, calls: Sequence[Call]) -> Cost:
    """All calls, a few at once."""
    latencies: list[float] = []

    async def work(index: int) -> None:
        for call in calls[index::_AT_ONCE]:
            started = time.perf_counter()
            await call()
            latencies.append(time.perf_counter() - started)

    pids = {"session": [service.process.pid], "postgres": [house.postgres.process.pid]}
    before = {name: cpu_seconds(group) for name, group in pids.items()}
    await asyncio.gather(*(work(index) for index in range(_AT_ONCE)))
    used = {name: (cpu_seconds(group) - before[name]) * 1000 / len(calls) for name, group in pids.items()}
    p50, p99 = percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000
    return Cost(used["session"], used["postgres"], p50, p99)


def _turns(caller: Caller, conversations: Sequence[str], number: int, budget: int = 0) -> list[Call]:
    # A multiple of the turns at once, so that no conversation is used by two of them (see `_run`).
    chosen = itertools.islice(itertools.cycle(conversations[: len(conversations) // _AT_ONCE * _AT_ONCE]), number)
    return [partial(caller.turn, conversation, budget) for conversation in chosen]


async def _costs(house: House, turns: int, rounds: int) -> dict[str, Cost]:
    runs: dict[str, list[Cost]] = {}
    async with (
        calling(house.sessions[:1], 1, house.principal) as (caller,),
        calling([house.bare], 1, house.principal) as (bare,),
    ):
        for number in range(rounds + 1):
            conversations = await house.conversations(turns // _TURNS_EACH)
            # More of them: so little work must stand out from the clock's ticks of 10 ms.
            one = {
                "empty call": await _run(house, house.bare, [bare.renew] * 3 * turns),
                "call with a statement": await _run(house, house.bare, [bare.release] * 3 * turns),
                "begin + commit": await _run(house, house.sessions[0], _turns(caller, conversations, turns)),
            }
            if number:  # the first one warms up
                for name, cost in one.items():
                    runs.setdefault(name, []).append(cost)
    return {name: _middle(of) for name, of in runs.items()}


def _bare(costs: dict[str, Cost]) -> float:
    """Two calls and two statements: a call with a statement is one of each."""
    return 2 * costs["call with a statement"].session_ms


async def _counted(house: House) -> dict[str, float]:
    """Statements, round trips and Valkey's commands for each turn."""
    turns = 200
    async with calling([house.counted], 1, house.principal) as (caller,):
        conversations = await house.conversations(turns // _TURNS_EACH)
        # Connections are opened and statements prepared.
        await _run(house, house.counted, _turns(caller, conversations, turns))
        wire, asked = house.wire, _valkey_commands(house)
        statements, round_trips = wire.statements, wire.round_trips
        await _run(house, house.counted, _turns(caller, conversations, turns))
        # Asking for the count is one of Valkey's commands itself.
        commands = _valkey_commands(house) - asked - 1
        return {
            "statements": (wire.statements - statements) / turns,
            "round trips": (wire.round_trips - round_trips) / turns,
            "Valkey commands": commands / turns,
        }


def _valkey_commands(house: House) -> int:
    found = re.search(rb"total_commands_processed:(\d+)", house.valkey.command("INFO", "stats"))
    assert found is not None
    return int(found[1])


async def _sizes(house: House, turns: int, most: int) -> dict[int, Cost]:
    """By the number of conversations that there are."""
    costs = {}
    there = 0
    everything: list[str] = []
    async with calling(house.sessions[:1], 1, house.principal) as (caller,):
        for size in [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= most]:
            everything += await house.conversations(size - there)
            there = size
            house.postgres.execute("CHECKPOINT", database="focus")
            house.postgres.execute("VACUUM ANALYZE conversations", database="focus")
            chosen = random.sample(everything, min(turns, size))
            await _run(house, house.sessions[0], _turns(caller, chosen, turns // 5, _BUDGET))
            costs[size] = await _run(house, house.sessions[0], _turns(caller, chosen, turns, _BUDGET))
    return costs


async def _lengths(house: House) -> dict[int, Cost]:
    """By the number of turns that a conversation has."""
    number, each = 50, 6
    costs = {}
    async with calling(house.sessions[:1], 1, house.principal) as (caller,):
        for length in (2, 20, 200, 2_000):
            conversations = await house.conversations(number)
            await house.fill(conversations, length)
            await _run(house, house.sessions[0], _turns(caller, conversations, number, _BUDGET))
            costs[length] = await _run(house, house.sessions[0], _turns(caller, conversations, number * each, _BUDGET))
    return costs


def _middle(runs: Sequence[Cost]) -> Cost:
    return Cost(
        median(run.session_ms for run in runs),
        median(run.postgres_ms for run in runs),
        median(run.p50_ms for run in runs),
        median(run.p99_ms for run in runs),
    )


def _tell(
    costs: dict[str, Cost],
    ratio: float,
    counts: dict[str, float],
    sizes: dict[int, Cost],
    lengths: dict[int, Cost],
    waiting: dict[str, list[Queue]],
) -> None:
    columns = ["", "process, CPU ms", "PostgreSQL, CPU ms", "p50 ms", "p99 ms"]
    results.table("1. Uncontended", columns, _rows(costs))
    print(f"begin + commit is {ratio:.2f} × two calls and two statements (goal 1.5)\n")
    print(
        "2. For each turn: " + ", ".join(f"{count:.2f} {name}" for name, count in counts.items()) + " (goal 2, 2, 0)\n"
    )
    results.table("3. By the number of conversations", columns, _rows({f"{n:,}": cost for n, cost in sizes.items()}))
    results.table("   By the turns in a conversation", columns, _rows({f"{n:,}": cost for n, cost in lengths.items()}))
    ideal = queues.WAITERS * queues.HOLD_SECONDS
    rows = []
    for name, runs in waiting.items():
        seconds = median(run.seconds for run in runs)
        rows.append([name, f"{seconds:.3f}", f"{seconds / ideal:.2f}", str(max(run.overtakes for run in runs))])
    columns = ["", "seconds", f"× ideal {ideal:.3f} s", "overtakes"]
    results.table("4. Forty waiters that hold 5 ms each", columns, rows)


def _rows(costs: dict[str, Cost]) -> list[list[str]]:
    return [
        [name, f"{cost.session_ms:.3f}", f"{cost.postgres_ms:.3f}", f"{cost.p50_ms:.2f}", f"{cost.p99_ms:.2f}"]
        for name, cost in costs.items()
    ]
