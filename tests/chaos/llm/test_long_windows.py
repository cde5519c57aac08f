"""The quota's promises with windows as long as Google's: a minute, and a guard of a second."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.process import wait_until_ready
from devstack.valkey import Valkey
from tests.integration.llm import fleet, load

WINDOW, RPM, PROCESSES = 60.0, 600, 4


@pytest.fixture
def store(scratch: Path) -> Iterator[Valkey]:
    name = f"chaos-{secrets.token_hex(4)}"
    server = Valkey("limits", scratch / name, scratch / "log" / f"{name}.log")
    try:
        wait_until_ready([server.start()], timeout=30)
        yield server
    finally:
        server.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sliding", "fixed"])
@pytest.mark.parametrize("disturbed", ["process", "store"])
async def test_the_quota_is_used_and_never_passed(
    tmp_path: Path, store: Valkey, kind: str, disturbed: str, long_form: bool
) -> None:
    """At three times the load, over four minutes; in the second one a process or the store is killed and replaced."""
    if not long_form:
        pytest.skip("tests/integration/llm/test_fleet.py is the short form")
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(load.catalogue(f"{{rpm: {RPM}}}"))
    environment = {"FOCUS_LLM_VALKEY_URL": store.url, "FOCUS_LLM_CATALOGUE": str(catalogue)}
    with fleet.emulator(window_seconds=WINDOW, window_kind=kind, limits={"*": {"*": {"rpm": RPM}}}) as emulator:

        def start(number: int) -> fleet.Child:
            return fleet.start_llm(emulator.url, {**environment, "FOCUS_LLM_INSTANCE": f"llm-{number}"})

        def address(child: fleet.Child) -> str:
            return f"127.0.0.1:{child.wait_for('listening')['port']}"

        children = [start(number) for number in range(PROCESSES)]
        live = [address(child) for child in children]

        async def chaos() -> None:
            await asyncio.sleep(1.3 * WINDOW)
            if disturbed == "process":
                gone = live.pop(0)
                children[0].kill()
                children[0] = await asyncio.to_thread(start, 0)
                live.append(await asyncio.to_thread(address, children[0]))
                assert gone not in live
            else:
                store.process.kill()
                await asyncio.sleep(10)
                await asyncio.to_thread(lambda: wait_until_ready([store.start()], timeout=30))

        try:
            disturbance = asyncio.create_task(chaos())
            seconds = 4 * WINDOW
            await load.offer(lambda: live, per_second=3 * RPM / WINDOW, seconds=seconds, patience=30)
            await disturbance
            stats = emulator.stats()
            arrivals = emulator.control("GET", "stats?arrivals=1")["arrival_list"]
        finally:
            for child in children:
                child.stop()
    begin = arrivals[0]["at"] + WINDOW
    end = arrivals[0]["at"] + seconds
    used = sum(1 for arrival in arrivals if begin <= arrival["at"] < end) / (RPM / WINDOW * (end - begin))
    print(f"used {used:.4f} of the limit ({kind} windows, {disturbed} killed)")
    assert stats["refused_429"] == 0
    assert used >= (0.97 if disturbed == "process" else 0.8)
