"""The load generator: a closed loop of clients in a process of its own.

    python -m bench.load < load.json > outcome.json

Every client keeps one connection and sends its next request when the last is
answered, until the requests or the seconds are used up.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import aiohttp
import uvloop

_REQUEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `{n}` in the body becomes the request's number.

    Client i takes request paths i, i + clients, … of `paths`, round and round, so that
    with at least as many paths as clients no two clients share one at a time.
    """

    base_url: str
    paths: list[str]
    body: str
    headers: dict[str, str]
    clients: int
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back. `latencies` are seconds, of successful requests only, `answers` counts "status x-cache"."""

    seconds: float
    latencies: list[float]
    answers: dict[str, int] = field(default_factory=dict)

    @property
    def completed(self) -> int:
        return len(self.latencies)

    @property
    def failed(self) -> int:
        return sum(self.answers.values()) - self.completed


def run(load: Load) -> Outcome:
    """Runs the load in its own process and waits for it. Raises RuntimeError if that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        timeout=load.seconds + 2 * _REQUEST_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()}")
    return Outcome(**json.loads(done.stdout))


async def _send(load: Load) -> Outcome:
    numbers = iter(range(load.requests))
    latencies: list[float] = []
    answers: Counter[str] = Counter()
    headers = {"Content-Type": "application/json", **load.headers}
    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
    connector = aiohttp.TCPConnector(limit=load.clients)
    async with aiohttp.ClientSession(load.base_url, headers=headers, connector=connector, timeout=timeout) as session:
        begun = time.perf_counter()

        async def client(index: int) -> None:
            for path in itertools.cycle(load.paths[index :: load.clients] or load.paths):
                number = next(numbers, None)
                if number is None or time.perf_counter() - begun > load.seconds:
                    return
                sent = time.perf_counter()
                async with session.post(path, data=load.body.replace("{n}", str(number)).encode()) as reply:
                    await reply.read()
                    answers[f"{reply.status} {reply.headers.get('X-Cache', '')}".strip()] += 1
                    if reply.status < 300:
                        latencies.append(time.perf_counter() - sent)

        await asyncio.gather(*(client(index) for index in range(load.clients)))
        seconds = time.perf_counter() - begun
    return Outcome(seconds, latencies, dict(answers))


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_send(Load(**json.load(sys.stdin)))))))
