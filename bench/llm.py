"""What a call of the llm service costs beside its bare parts, how smoothly it streams, and what the quota costs.

The upstream is the scripted emulator without limits. Measured in the same run, in rounds of which the medians count:
`Generate` of the llm service with quota in Valkey; an RPC that streams the same messages and does nothing; a direct
aiohttp call; two scripts in Valkey; google-genai. Goal: at most 1.5 times the sum of the parts. Then open streams at
20 tokens a second each (goal: 256 from one process, no gap over twice the upstream's), the time of the quota's scripts
inside Valkey (goal: 60 microseconds) and a queue of 10,000.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import Request, urlopen

from rich.progress import track

from bench import results
from bench.measure import cpu_seconds, percentile
from bench.upstream import without_limits
from devstack.process import wait_until_ready
from devstack.valkey import Valkey
from services.llm import catalogue_file
from services.llm.providers.port import Endpoint, Usage
from services.llm.quota import Grant, Settlement, Windows, Wish
from services.llm.store.connection import call, connect
from services.llm.store.limiter import Membership, Replay, ValkeyLimiter

_ROOT = Path(__file__).resolve().parents[1]
_KEY = "focus-emulator-key"
_TOKENS_A_SECOND = 20


def main(arguments: list[str]) -> int:
    """Exit status 1 if a call failed."""
    parser = argparse.ArgumentParser(prog="python -m bench llm", description=__doc__)
    parser.add_argument("--clients", type=int, default=8, help="clients at once in the closed loop (8)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each measurement (3)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (3)")
    parser.add_argument("--streams", default="64,256,512", help="numbers of open streams, by commas")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="focus-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        valkey = Valkey("limits", folder / "valkey", folder / "valkey.log")
        wait_until_ready([valkey.start()], timeout=30)
        stack.callback(valkey.stop)
        settings = without_limits(folder)
        upstream = _start(stack, folder, "devstack.gemini", {**settings, "FOCUS_GEMINI_BACKEND": "scripted"})
        base_url = _told(upstream, folder / "devstack.gemini.log", "url")
        environment = {"FOCUS_LLM_BASE_URL": base_url, "GEMINI_API_KEY": _KEY, "FOCUS_LLM_VALKEY_URL": valkey.url}
        service = _start(stack, folder, "services.llm", {**settings, **environment})
        target = f"127.0.0.1:{_told(service, folder / 'services.llm.log', 'port')}"
        empty = _start(stack, folder, "bench.llm_roles", {}, "empty")
        empty_target = f"127.0.0.1:{_told(empty, folder / 'bench.llm_roles.log', '')}"
        rounds: list[dict[str, float]] = []
        failed = 0
        for _ in track(range(options.rounds), description="calls"):
            load = {"clients": options.clients, "seconds": options.seconds}
            one: dict[str, float] = {}
            for label, process, address in (("llm", service, target), ("empty RPC", empty, empty_target)):
                before = cpu_seconds([process.pid])
                outcome = _role("load", {**load, "target": address})
                one[label] = (cpu_seconds([process.pid]) - before) * 1000 / max(1, len(outcome["latencies"]))
                failed += outcome["failed"]
            parts = {"base_url": base_url, "key": _KEY, "valkey_url": valkey.url, "count": 400}
            rounds.append({**one, **_role("parts", {**parts, "at_once": options.clients})})
        figures = {label: median(one[label] for one in rounds) for label in rounds[0]}
        bare = [figures[name] for name in ("empty RPC", "aiohttp", "two scripts, redis-py")]
        figures["sum of the bare parts"] = sum(bare)
        figures["ratio"] = figures["llm"] / sum(bare)
        streams = [
            _streams(base_url, target, service.pid, int(count))
            for count in track(options.streams.split(","), "streams")
        ]
        quota = asyncio.run(_quota(valkey.url))
    _print(figures, streams, quota)
    results.save("llm", {"cpu_ms": figures, "streams": streams, "quota": quota, "failed": failed})
    return 1 if failed else 0


def _start(
    stack: ExitStack, folder: Path, module: str, environment: dict[str, str], *words: str
) -> subprocess.Popen[bytes]:
    log = stack.enter_context((folder / f"{module}.log").open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        env={**os.environ, **environment},
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )

    def stop() -> None:
        process.kill()
        process.wait()

    stack.callback(stop)
    return process


def _told(process: subprocess.Popen[bytes], log: Path, field: str) -> Any:
    """What a process says of itself when it listens; without a field its whole first line."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends and process.poll() is None:
        for line in log.read_text().splitlines():
            if not field and line.isdigit():
                return line
            if field and line.startswith("{") and field in (fields := json.loads(line)):
                return fields[field]
        time.sleep(0.05)
    raise SystemExit(f"a process of the benchmark did not start:\n{log.read_text()}")


def _role(role: str, given: dict[str, Any]) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "bench.llm_roles", role],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=_ROOT,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def _streams(base_url: str, target: str, pid: int, count: int) -> dict[str, float]:
    """Streams of ten seconds at 20 pieces a second each, all at once."""
    pieces = 10 * _TOKENS_A_SECOND
    rule = {"chunks": ["word "] * pieces, "chunk_delay_seconds": 1 / _TOKENS_A_SECOND}
    body = json.dumps({"rules": [rule]}).encode()
    control = Request(f"{base_url}/_emulator/script", body, {"content-type": "application/json"}, method="POST")
    urlopen(control, timeout=10).read()
    before = cpu_seconds([pid])
    outcome = _role("load", {"target": target, "clients": count, "seconds": 0, "once": True, "question": "Count."})
    gaps = [gap * 1000 for gap in outcome["gaps"]]
    return {
        "streams": count,
        "failed": outcome["failed"],
        "cores": (cpu_seconds([pid]) - before) / outcome["seconds"],
        "gap_p50_ms": percentile(gaps, 0.5),
        "gap_p99_ms": percentile(gaps, 0.99),
        "gap_max_ms": max(gaps, default=float("nan")),
        "pieces_per_message": count * pieces / max(1, outcome["deltas"]),
    }


async def _quota(url: str) -> dict[str, float]:
    """Microseconds inside Valkey of reserving and settling all dimensions, and of queueing behind 10,000."""
    text = catalogue_file.PACKAGED.read_text().replace(
        '"*flash*": {rpm: 1500, input_tpm: 4000000}',
        '"*flash*": {rpm: 1000000, input_tpm: 1000000000, rpd: 100000000}',
    )
    text = text.replace("spend_per_10_minutes_usd: 10", "spend_per_10_minutes_usd: 100000")
    found = catalogue_file.parse(text.replace('"*pro*": {rpm: 360', '"*pro*": {rpm: 1').encode(), "bench")
    member = uuid.uuid4().hex
    limiter = ValkeyLimiter(
        url,
        Windows(),
        Membership(member, member),
        lambda: found,
        Replay(deque(), {}),
        list,
        timeout=10,
        most_waiting=20_000,
    )
    await limiter.beat()
    other = await connect(url, 10)
    junior, senior = Endpoint("p", "gemini-3.5-flash-lite"), Endpoint("p", "gemini-3.1-pro-preview")

    def wish(endpoint: Endpoint, tenant: int) -> Wish:
        return Wish(uuid.uuid4().hex, "junior", f"tenant-{tenant}", 0, 100, 50, (endpoint,), 180.0)

    async def measured(work: Any) -> float:
        await call(other, ("CONFIG", "RESETSTAT"), 10)
        await work()
        stats = bytes(await call(other, ("INFO", "commandstats"), 10)).decode()
        line = next(one for one in stats.splitlines() if one.startswith("cmdstat_evalsha:"))
        fields = dict(field.split("=") for field in line.split(":")[1].split(","))
        return float(fields["usec_per_call"])

    wishes = [wish(junior, number % 50) for number in range(2000)]

    async def reserve() -> None:
        for one in wishes:
            assert isinstance(await limiter.acquire(one, 60), Grant)

    async def settle() -> None:
        for one in wishes:
            await limiter.settle([Settlement(one, junior, "done", Usage(90, 0, 20), 40)])

    await limiter.acquire(wish(junior, 0), 60)
    await limiter.settle([Settlement(wish(junior, 0), junior, "failed")])
    figures = {"reserve": await measured(reserve), "settle": await measured(settle)}
    queued = 0

    async def queue(count: int) -> None:
        nonlocal queued
        for _ in range(count):
            queued += 1
            await limiter.acquire(wish(senior, queued % 500), 10_000_000)

    await queue(10)
    figures["queue behind 100"] = await measured(lambda: queue(100))
    await queue(10_000 - queued)
    figures["queue behind 10,000"] = await measured(lambda: queue(100))
    limiter.close()
    other.close()
    return figures


def _print(figures: dict[str, float], streams: list[dict[str, float]], quota: dict[str, float]) -> None:
    results.table(
        "CPU milliseconds a call (ratio: llm over the sum of empty RPC, aiohttp and two scripts by redis-py)",
        ["", "ms"],
        [[label, f"{value:.2f}"] for label, value in figures.items()],
    )
    results.table(
        "open streams at 20 pieces a second each",
        list(streams[0]),
        [[f"{value:.2f}".removesuffix(".00") for value in one.values()] for one in streams],
    )
    results.table("microseconds inside Valkey", ["", "us"], [[label, f"{us:.1f}"] for label, us in quota.items()])
