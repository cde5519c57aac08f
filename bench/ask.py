"""Questions over HTTP through the whole system, with an instant upstream.

Per round: a constant FastAPI route (the unit), a cached ask, an uncached ask, a turn
of a conversation (at most ten turns each). Rounds alternate, the medians count.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import measure, results, upstream
from bench.load import Load
from bench.measure import Measured
from devstack import demo, probes
from devstack.ports import Port
from devstack.process import Process, Ready, wait_until_ready
from devstack.stack import Plan, Stack

_TURNS_EACH = 10
_CACHED = '{"question": "What is the capital of Brazil?"}'
_UNCACHED = '{"question": "What is the square of {n} in round %s?"}'
_TURN = '{"question": "And what is {n} plus one?"}'


def main(arguments: list[str]) -> int:
    """Exit status 1 if any request failed or was answered otherwise than the scenario says."""
    parser = argparse.ArgumentParser(prog="python -m bench ask", description=__doc__)
    parser.add_argument("--clients", default="1,8", help="numbers of clients at once, by commas (1,8)")
    parser.add_argument("--requests", type=int, default=600, help="most requests a round and scenario (600)")
    parser.add_argument("--seconds", type=float, default=10.0, help="most seconds a round and scenario (10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (3)")
    options = parser.parse_args(arguments)
    clients = [int(number) for number in options.clients.split(",")]
    with tempfile.TemporaryDirectory(prefix="focus-bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        home.chmod(0o755)  # PostgreSQL's account must get in
        plan = Plan(home / "stack", backend="scripted", settings=upstream.without_limits(home))
        system = stack.enter_context(Stack(plan))
        bench = _Bench(system, stack.enter_context(_constant(home)), options.requests, options.seconds)
        measured: dict[int, dict[str, list[Measured]]] = {}
        for count in clients:
            bench.warm(count)
            for number in range(options.rounds):
                for name, one in bench.round(count, f"{count}-{number}").items():
                    measured.setdefault(count, {}).setdefault(name, []).append(one)
    return _tell({count: {name: measure.middle(runs) for name, runs in by.items()} for count, by in measured.items()})


class _Bench:
    """The scenarios against one running system."""

    def __init__(self, system: Stack, constant: tuple[str, int], requests: int, seconds: float) -> None:
        account = demo.prepare(system.base_url, system.home.dev_env)
        self._url = system.base_url
        self._headers = {"Authorization": f"Bearer {account.api_key}"}
        self._constant_url, constant_pid = constant
        self._requests, self._seconds = requests, seconds
        self._constant = {"constant": [constant_pid]}
        self._processes = {
            **{role: [one.process.pid for one in replicas] for role, replicas in system.services.items()},
            "postgres": [system.postgres.process.pid],
            "valkey": [system.valkey_limits.process.pid, system.valkey_cache.process.pid],
        }

    def warm(self, clients: int) -> None:
        """Opens connections and fills the cache; not measured."""
        few = 20 * clients
        for load in (
            self._load(["/v1/ask"], _CACHED, clients, few),
            self._load(["/v1/ask"], _UNCACHED % f"warm {clients}", clients, few),
            self._load(self._conversations(few), _TURN, clients, few),
        ):
            measure.run(load, {})

    def round(self, clients: int, name: str) -> dict[str, Measured]:
        """Every scenario once."""
        total = self._requests
        # More of them: so little work must stand out from the clock's ticks of 10 ms.
        constant = self._load(["/v1/ask"], _CACHED, clients, 5 * total, url=self._constant_url)
        ask = ["/v1/ask"]
        turns = self._load(self._conversations(total), _TURN, clients, total)
        return {
            "constant route": measure.run(constant, self._constant),
            "cached ask": measure.run(self._load(ask, _CACHED, clients, total), self._processes),
            "uncached ask": measure.run(self._load(ask, _UNCACHED % name, clients, total), self._processes),
            "conversation turn": measure.run(turns, self._processes),
        }

    def _load(self, paths: list[str], body: str, clients: int, requests: int, *, url: str = "") -> Load:
        return Load(url or self._url, paths, body, self._headers, clients, requests, self._seconds)

    def _conversations(self, turns: int) -> list[str]:
        # No client shares a conversation with another: what is measured is a turn, not its queue.
        number = max(64, turns // _TURNS_EACH)
        return [f"/v1/conversations/{self._conversation()}/turns" for _ in range(number)]

    def _conversation(self) -> str:
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=30)
        connection.request("POST", "/v1/conversations", "{}", {**self._headers, "Content-Type": "application/json"})
        reply: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return str(reply["conversation_id"])


@contextmanager
def _constant(home: Path) -> Iterator[tuple[str, int]]:
    port = Port()
    command = [sys.executable, "-m", "bench.constant", str(port.number)]
    root = Path(__file__).resolve().parents[1]
    process = Process("constant route", command, home / "constant.log", dict(os.environ), root)
    try:
        process.start()
        wait_until_ready([Ready(process, lambda: probes.http_ok(port.number, "/openapi.json"))], timeout=30)
        yield f"http://{port.address}", process.pid
    finally:
        process.stop()
        port.close()


def _tell(measured: dict[int, dict[str, Measured]]) -> int:
    groups = ["gateway", "session", "cache", "llm", "postgres", "valkey"]
    failures = []
    for clients, scenarios in measured.items():
        unit = scenarios["constant route"].services_cpu_ms
        rows = []
        for name, one in scenarios.items():
            shown = [f"{one.cpu_ms[group]:.2f}" if group in one.cpu_ms else "" for group in groups]
            figures = [f"{one.requests_per_second:.0f}", f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}"]
            total = one.services_cpu_ms
            rows.append([name, *figures, f"{total:.2f}", f"{total / unit:.1f}" if unit else "", *shown])
            if one.failed or (name == "cached ask" and set(one.answers) != {"200 hit"}):
                failures.append(f"{name} with {clients} clients: {one.answers}")
        columns = ["", "req/s", "p50 ms", "p99 ms", "services", "× constant", *groups]
        results.table(f"{clients} client{'s' * (clients > 1)}; CPU in ms per request", columns, rows)
    figures_by_clients = {
        str(count): {name: measure.as_json(one) for name, one in by.items()} for count, by in measured.items()
    }
    print(f"saved in {results.save('ask', {'clients': figures_by_clients})}")
    for failure in failures:
        print(f"not as it should be: {failure}", file=sys.stderr)
    return 1 if failures else 0
