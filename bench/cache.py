"""What a look-up costs, beside the bare parts it is made of.

Measured side by side, in rounds of which the medians count: `Lookup` answered from 1 to
1,000,000 entries; an RPC that does nothing; a bare read by redis-py and by the service's
own client; with --litellm also LiteLLM's Redis cache, installed into an environment of
its own. Goals: a hit costs at most 1.5 times an empty RPC plus a redis-py read; its p99
at half of saturation is at most 3 times the empty RPC's at the same rate; both flat in
the number of entries.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import track

from bench import results
from bench.cache_roles import TENANT, Load, Outcome, text
from bench.measure import cpu_seconds, percentile
from devstack.process import wait_until_ready
from devstack.valkey import Valkey
from focus.cache.v1.entry_pb2 import Origin, StoredEntry
from focus.chat.v1.chat_pb2 import Answer, FinishReason, Mode
from services.cache.entries import Coder
from services.cache.freshness import Freshness
from services.cache.keys import Asked, Scope, key_of
from services.cache.storage import Value
from services.cache.store import ValkeyStore, question_name
from services.cache.valkey.client import Client
from services.cache.valkey.connection import Address
from services.cache.vault import Vault

_SECRET = "0123456789abcdef0123456789abcdef"  # of nothing but this benchmark
_LITELLM = "litellm==1.80.0"
_ANSWER = "The square of a number is the number times itself; " * 6
_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """Exit status 1 if a look-up was not the hit it should be, or failed."""
    parser = argparse.ArgumentParser(prog="python -m bench cache", description=__doc__)
    parser.add_argument("--entries", default="1,1000,1000000", help="numbers of stored answers, by commas")
    parser.add_argument("--clients", type=int, default=16, help="clients at once in the closed loop (16)")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each measurement (4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (3)")
    parser.add_argument("--litellm", action="store_true", help=f"install and measure {_LITELLM} too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="focus-bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        valkey = _valkey(home, stack)
        service, empty = stack.enter_context(_service(home, valkey)), stack.enter_context(_empty())
        bare: dict[str, float] = {}
        measured: list[dict[str, Any]] = []
        stored = 0
        for entries in sorted(int(number) for number in options.entries.split(",")):
            asyncio.run(_fill(home, valkey.url, stored, entries))
            stored = entries
            rounds = [_round(service, empty, entries, options) for _ in range(options.rounds)]
            measured.append({"entries": entries, **_medians(rounds)})
        bare = _bare(home, valkey.url, options.clients)
        if options.litellm:
            bare["LiteLLM"] = _litellm(home, valkey.url)
    return _tell(measured, bare)


def _round(service: tuple[int, int], empty: tuple[int, int], entries: int, options: Any) -> dict[str, float]:
    """One measurement of each: CPU in the closed loop, p99 in the open loop at half of the service's saturation."""
    figures: dict[str, float] = {"wrong": 0}
    rate = 0.0
    for name, (port, pid), asked in (("hit", service, entries), ("empty", empty, 0)):
        target = f"127.0.0.1:{port}"
        _send(Load(target, asked, 0.5, clients=options.clients))
        before = cpu_seconds([pid])
        closed = _send(Load(target, asked, options.seconds, clients=options.clients))
        figures[f"{name} cpu"] = (cpu_seconds([pid]) - before) * 1000 / max(1, len(closed.latencies))
        figures[f"{name} rate"] = len(closed.latencies) / closed.seconds
        rate = rate or figures[f"{name} rate"] / 2
        opened = _send(Load(target, asked, options.seconds, rate=rate))
        figures[f"{name} p50"] = percentile(opened.latencies, 0.5) * 1000
        figures[f"{name} p99"] = percentile(opened.latencies, 0.99) * 1000
        for outcome in (closed, opened):
            misses = len(outcome.latencies) - outcome.hits if asked else 0
            figures["wrong"] += outcome.failed + misses
    return figures


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def _send(load: Load) -> Outcome:
    return Outcome(**_role("load", asdict(load)))


def _role(role: str, order: dict[str, Any], python: str = sys.executable) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-m", "bench.cache_roles", role],
        input=json.dumps(order), cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the benchmark's {role} process failed: {done.stderr.strip()}")
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def _valkey(home: Path, stack: ExitStack) -> Valkey:
    valkey = Valkey("cache", home / "valkey", home / "valkey.log")
    stack.callback(valkey.stop)
    wait_until_ready([valkey.start()], timeout=30)
    valkey.command("CONFIG", "SET", "maxmemory", "0")
    return valkey


@contextmanager
def _service(home: Path, valkey: Valkey) -> Iterator[tuple[int, int]]:
    """Port and process id of a cache service."""
    secrets = _secrets(home)
    environment = {
        **os.environ,
        "FOCUS_CACHE_VALKEY_URL": valkey.url,
        "FOCUS_CACHE_SECRETS_DIR": str(secrets),
        "FOCUS_CACHE_VALKEY_TIMEOUT_SECONDS": "1",
        "FOCUS_CACHE_STOP_GRACE_SECONDS": "1",
    }
    command = [sys.executable, "-m", "services.cache"]
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if '"listening"' in line:
                    yield int(json.loads(line)["port"]), process.pid
                    return
            raise RuntimeError("the cache service did not start")
        finally:
            process.terminate()


@contextmanager
def _empty() -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "bench.cache_roles", "empty"]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


def _secrets(home: Path) -> Path:
    secrets = home / "secrets"
    secrets.mkdir(exist_ok=True)
    (secrets / "hmac").write_text(_SECRET)
    return secrets


def _key(secret: bytes, number: int) -> bytes:
    return key_of(secret, Asked(TENANT, "", Scope.TENANT, text(number), Mode.MODE_AUTO, "", 0, None, ""))


async def _fill(home: Path, url: str, first: int, last: int) -> None:
    """Stores answers for the questions from `first` to before `last`, as the service would."""
    vault = Vault(_secrets(home))
    coder = Coder(lambda: vault.ring, 1024, 1 << 20)
    client = Client(Address.parse(url), budget=30)
    assert await client.ready(10)
    store = ValkeyStore(client, Freshness())
    made = Answer(
        text=_ANSWER, model="bench", confidence=0.9, finish_reason=FinishReason.FINISH_REASON_STOP, cost_microusd=10
    )
    # A version of the far future: no mark is newer.
    entry = StoredEntry(answer=made, stored_at_ms=1, origin=Origin.ORIGIN_TRAFFIC, marks_version=1 << 60)
    batch = 500
    starts = range(first, last, batch)
    for start in track(starts, f"storing {last} answers", disable=len(starts) < 20):
        puts = []
        for number in range(start, min(start + batch, last)):
            key = _key(vault.secret, number)
            value = coder.encode(key, entry)
            assert value is not None
            puts.append(store.put(key, b"", Value(value, cost=1000)))
        await asyncio.gather(*puts)
    await client.close()


def _bare(home: Path, url: str, at_once: int) -> dict[str, float]:
    name = question_name(_key(Vault(_secrets(home)).secret, 0)).decode()
    order = {"url": url, "name": name, "count": 20_000, "at_once": at_once}
    return {label: float(figure) for label, figure in _role("get", order).items()}


_LITELLM_READ = """
import asyncio, json, sys, time
from litellm.caching.redis_cache import RedisCache
async def main(port, count=3000, at_once=16):
    cache = RedisCache(host="127.0.0.1", port=port)
    value = {"choices": [{"message": {"content": "x" * 306}}]}
    await cache.async_set_cache("question", value, ttl=3600)
    async def read():
        for _ in range(count // at_once):
            assert await cache.async_get_cache("question") == value
    await read()
    started = time.process_time()
    await asyncio.gather(*(read() for _ in range(at_once)))
    print(json.dumps((time.process_time() - started) * 1000 / count))
asyncio.run(main(int(sys.argv[1])))
"""


def _litellm(home: Path, url: str) -> float:
    """CPU milliseconds of one hit in LiteLLM's Redis cache, without any server around it."""
    uv, python = str(Path(sys.executable).with_name("uv")), home / "litellm" / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(home / "litellm")], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", str(python), _LITELLM, "redis"], check=True)
    port = str(Address.parse(url).port)
    done = subprocess.run([str(python), "-c", _LITELLM_READ, port], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def _tell(measured: list[dict[str, Any]], bare: dict[str, float]) -> int:
    rows = []
    for one in measured:
        cost = one["hit cpu"] / (one["empty cpu"] + bare["redis-py"])
        rows.append(
            [f"{one['entries']:,}", f"{one['hit rate']:.0f}", f"{one['hit cpu']:.3f}", f"{one['empty cpu']:.3f}",
             f"{cost:.2f}", f"{one['hit p50']:.2f}", f"{one['hit p99']:.2f}", f"{one['empty p99']:.2f}",
             f"{one['hit p99'] / one['empty p99']:.2f}"]
        )  # fmt: skip
    columns = ["entries", "hits/s", "hit CPU", "empty CPU", "× empty+GET", "p50", "p99", "empty p99", "× p99"]
    results.table("Look-ups answered from the cache; CPU and latency in ms", columns, rows)
    results.table("One read, CPU in ms of the reading process", list(bare), [[f"{one:.3f}" for one in bare.values()]])
    print(f"saved in {results.save('cache', {'lookups': measured, 'reads_cpu_ms': bare})}")
    wrong = sum(one["wrong"] for one in measured)
    if wrong:
        print(f"{wrong:.0f} look-ups failed or were no hit", file=sys.stderr)
    return 1 if wrong else 0
