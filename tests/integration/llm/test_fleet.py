"""Four llm processes, one quota, three times the load: as the provider counts it, nothing is ever passed.

Short form, with windows of three seconds; `tests/chaos/llm` holds the long one. The guard is 1 s in
production; here it is a part of the short window that would cost a tenth of the quota, so the bound
on use is stated against what guard and window allow together.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.process import wait_until_ready
from devstack.valkey import Valkey
from tests.integration.llm import fleet, load

WINDOW = 3.0
GUARD = 0.3
RPM = 90
# What the guard leaves of the limit.
BOUND = WINDOW / (WINDOW + GUARD)


class Fleet:
    """llm processes over one Valkey and one emulator."""

    def __init__(self, base_url: str, valkey_url: str, catalogue: Path, processes: int) -> None:
        self._base_url = base_url
        self._environment = {
            "FOCUS_LLM_VALKEY_URL": valkey_url,
            "FOCUS_LLM_CATALOGUE": str(catalogue),
            "FOCUS_LLM_QUOTA_WINDOW_SECONDS": str(WINDOW),
            "FOCUS_LLM_QUOTA_GUARD_SECONDS": str(GUARD),
            "FOCUS_LLM_STOP_GRACE_SECONDS": "1",
        }
        self.children = [self._start(number) for number in range(processes)]
        self.addresses = [self._address(child) for child in self.children]

    def _start(self, number: int) -> fleet.Child:
        return fleet.start_llm(self._base_url, {**self._environment, "FOCUS_LLM_INSTANCE": f"llm-{number}"})

    @staticmethod
    def _address(child: fleet.Child) -> str:
        return f"127.0.0.1:{child.wait_for('listening')['port']}"

    def kill(self, number: int) -> None:
        self.children[number].kill()

    def replace(self, number: int) -> None:
        """Starts another process in a killed one's place."""
        self.children[number] = self._start(number)
        self.addresses[number] = self._address(self.children[number])

    def stop(self) -> None:
        for child in self.children:
            child.stop()


@pytest.fixture
def store(scratch: Path) -> Iterator[Valkey]:
    name = f"fleet-{secrets.token_hex(4)}"
    server = Valkey("limits", scratch / name, scratch / "log" / f"{name}.log")
    try:
        wait_until_ready([server.start()], timeout=30)
        yield server
    finally:
        server.stop()


@contextmanager
def running(
    tmp_path: Path, valkey_url: str, limits: str, kind: str, **real: int
) -> Iterator[tuple[fleet.Emulator, Fleet]]:
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(load.catalogue(limits))
    with fleet.emulator(window_seconds=WINDOW, window_kind=kind, limits={"*": {"*": real}}) as emulator:
        processes = Fleet(emulator.url, valkey_url, catalogue, 4)
        try:
            yield emulator, processes
        finally:
            processes.stop()


def use(emulator: fleet.Emulator, limit: int, until: float) -> float:
    """Part of the calls' limit that was used, from a window after the first arrival to `until` seconds after it."""
    arrivals = emulator.control("GET", "stats?arrivals=1")["arrival_list"]
    begin, end = arrivals[0]["at"] + WINDOW, arrivals[0]["at"] + until
    count = sum(1 for arrival in arrivals if begin <= arrival["at"] < end)
    return float(count / (limit / WINDOW * (end - begin)))


@pytest.mark.parametrize("kind", ["sliding", "fixed"])
async def test_the_whole_quota_is_used_and_never_passed(tmp_path: Path, store: Valkey, kind: str) -> None:
    """Also while a process is killed and another one started."""
    with running(tmp_path, store.url, f"{{rpm: {RPM}}}", kind, rpm=RPM) as (emulator, processes):
        live = list(processes.addresses)

        async def chaos() -> None:
            await asyncio.sleep(1.5 * WINDOW)
            live.remove(processes.addresses[0])
            processes.kill(0)
            await asyncio.to_thread(processes.replace, 0)
            live.append(processes.addresses[0])

        disturbance = asyncio.create_task(chaos())
        seconds = 4 * WINDOW
        fared = await load.offer(lambda: live, per_second=3 * RPM / WINDOW, seconds=seconds, patience=4 * WINDOW)
        await disturbance
        stats = emulator.stats()
        used = use(emulator, RPM, seconds)
    assert stats["refused_429"] == 0
    # What was sent was answered in time: nothing is spent on callers who have given up.
    assert fared.outcomes["ok"] >= 0.9 * stats["admitted"]
    assert used >= 0.97 * BOUND, f"used {used:.3f} of the limit, {used / BOUND:.3f} of what the guard leaves"


async def test_no_more_input_tokens_than_allowed_are_sent(tmp_path: Path, store: Valkey) -> None:
    """Where tokens bind; how many a character makes is learned while it runs."""
    tpm = 9000
    with running(tmp_path, store.url, f"{{input_tpm: {tpm}}}", "sliding", tpm=tpm) as (emulator, processes):
        await load.offer(lambda: processes.addresses, per_second=100, seconds=4 * WINDOW, patience=4 * WINDOW)
        stats = emulator.stats()
    assert stats["refused_429"] == 0
    peak = stats["models"][0]["max_admitted_in_window"]["sliding_input_tokens"]
    assert peak >= 0.95 * tpm * BOUND, f"{peak} of {tpm} tokens in the fullest window"


@pytest.mark.parametrize(("how", "least"), [("killed", 0.6), ("paused", 0.4)])
async def test_the_store_is_lost_and_comes_back(tmp_path: Path, store: Valkey, how: str, least: float) -> None:
    """Everybody lives on its share meanwhile, and tells what it was granted when the store is back.

    A store that is only silent might serve others, so the shares open later.
    """
    with running(tmp_path, store.url, f"{{rpm: {RPM}}}", "sliding", rpm=RPM) as (emulator, processes):

        async def chaos() -> None:
            await asyncio.sleep(1.5 * WINDOW)
            if how == "paused":
                store.process.pause()
                await asyncio.sleep(2 * WINDOW)
                store.process.resume()
            else:
                store.process.kill()
                await asyncio.sleep(WINDOW)
                await asyncio.to_thread(lambda: wait_until_ready([store.start()], timeout=30))

        disturbance = asyncio.create_task(chaos())
        seconds = (4 if how == "killed" else 6) * WINDOW
        fared = await load.offer(
            lambda: processes.addresses, per_second=3 * RPM / WINDOW, seconds=seconds, patience=4 * WINDOW
        )
        await disturbance
        stats = emulator.stats()
        used = use(emulator, RPM, seconds)
    print(f"used {used:.3f} of the limit while the store was {how}")
    assert stats["refused_429"] == 0
    assert used >= least
    assert set(fared.outcomes) <= {"ok", "QUOTA_EXHAUSTED"}


async def test_control_without_a_common_store_the_limit_is_passed(tmp_path: Path) -> None:
    """The checks above can fail: four processes that know nothing of one another use four times the quota."""
    with running(tmp_path, "", f"{{rpm: {RPM}}}", "sliding", rpm=RPM) as (emulator, processes):
        await load.offer(lambda: processes.addresses, per_second=3 * RPM / WINDOW, seconds=WINDOW, patience=WINDOW)
        assert emulator.stats()["refused_429"] > 0


async def test_a_noisy_tenant_takes_little_from_the_others(tmp_path: Path, store: Valkey) -> None:
    """One tenant asks ten times as much as the four others together; each of those still gets its answers."""
    with running(tmp_path, store.url, f"{{rpm: {RPM}}}", "sliding", rpm=RPM) as (_, processes):
        capacity = RPM / (WINDOW + GUARD)
        names = ["a", "b", "c", "d"]
        turn = iter(range(10**9))
        quiet = load.offer(
            lambda: processes.addresses,
            per_second=0.5 * capacity,
            seconds=4 * WINDOW,
            patience=3 * WINDOW,
            tenant=lambda: names[next(turn) % 4],
        )
        noisy = load.offer(
            lambda: processes.addresses,
            per_second=3 * capacity,
            seconds=4 * WINDOW,
            patience=3 * WINDOW,
            tenant=lambda: "noisy",
        )
        fared, loud = await asyncio.gather(quiet, noisy)
    assert loud.outcomes["QUOTA_EXHAUSTED"] > 0
    for tenant in names:
        counts = fared.tenants[tenant]
        assert counts["ok"] >= 0.9 * counts.total(), f"{tenant}: {counts}"
