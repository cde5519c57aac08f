"""Valkey gone, stopped, full or evicting under load: everybody is answered, soon, and nothing crosses."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devstack.process import wait_until_ready
from devstack.valkey import Valkey
from focus.cache.v1 import cache_pb2 as pb
from tests.integration.cache.fleet import Gateway, Upstream, answer, asking, kind, lookup, replicas, store

if TYPE_CHECKING:
    from tests.integration.cache.fleet import Stub

# The default; the tests elsewhere are more patient.
BUDGET: dict[str, Any] = {"valkey_timeout_seconds": 0.02}
RECOVERY_SECONDS = 5.0


@dataclass
class Load:
    """Look-ups one after another by some callers, each with its latency."""

    stub: Stub
    questions: int = 50
    kinds: list[str | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, callers: int = 8) -> None:
        self._tasks = [asyncio.create_task(self._call(random.Random(seed))) for seed in range(callers)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome

    def forget(self) -> None:
        self.kinds.clear()
        self.seconds.clear()

    async def _call(self, dice: random.Random) -> None:
        while True:
            number = dice.randrange(self.questions)
            started = time.monotonic()
            found = await lookup(self.stub, question(number), single_flight=False)
            self.seconds.append(time.monotonic() - started)
            self.kinds.append(kind(found))
            if found.hit.answer.text not in ("", text(number)):
                self.wrong += 1
            await asyncio.sleep(0.002)


def question(number: int) -> pb.Question:
    return asking(f"What is the square of {number}?")


def text(number: int) -> str:
    return f"The square is {number * number}. " + "x" * 200


async def fill(stub: Stub, count: int) -> None:
    for number in range(count):
        await store(stub, question(number), answer(text(number)))


async def recovered(stub: Stub, probe: pb.Question) -> float:
    """Seconds until an answer is stored in the fleet's store again."""
    started = time.monotonic()
    async with asyncio.timeout(RECOVERY_SECONDS):
        while not (await store(stub, probe)).stored:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return time.monotonic() - started


async def test_stopped_under_load_all_are_answered_from_memory(valkey_cache: Valkey, tmp_path: Path) -> None:
    """SIGSTOP: its packets are taken and never answered. One budget is waited for, then none."""
    async with replicas(valkey_cache.url, tmp_path, **BUDGET) as (stub,):
        await fill(stub, 50)
        load = Load(stub)
        load.start()
        await asyncio.sleep(0.5)
        valkey_cache.process.pause()
        load.forget()
        await asyncio.sleep(2.5)
        during, seconds = list(load.kinds), list(load.seconds)
        valkey_cache.process.resume()
        await recovered(stub, question(1000))
        await load.stop()
    assert len(during) > 100
    assert set(during) == {"hit"}
    assert load.wrong == 0
    assert sorted(seconds)[len(seconds) // 2] < 0.02
    assert max(seconds) < 0.5


async def test_control_with_a_long_budget_callers_wait(valkey_cache: Valkey, tmp_path: Path) -> None:
    """What the test above would see if nothing bounded the wait."""
    async with replicas(valkey_cache.url, tmp_path, valkey_timeout_seconds=1.0) as (stub,):
        await fill(stub, 1)
        valkey_cache.process.pause()
        started = time.monotonic()
        await lookup(stub, question(0), single_flight=False)
        waited = time.monotonic() - started
        valkey_cache.process.resume()
    assert waited > 0.5


async def test_killed_and_started_again(valkey_cache: Valkey, tmp_path: Path) -> None:
    async with replicas(valkey_cache.url, tmp_path, **BUDGET) as (stub,):
        await fill(stub, 50)
        load = Load(stub)
        load.start()
        valkey_cache.process.kill()
        await asyncio.sleep(1)
        load.forget()
        await asyncio.sleep(0.5)
        assert set(load.kinds) == {"hit"}
        reply = await store(stub, question(1000))
        assert (reply.stored, reply.reason) == (False, pb.NotStored.NOT_STORED_UNAVAILABLE)
        assert kind(await lookup(stub, question(1000))) == "hit"
        wait_until_ready([valkey_cache.start()], timeout=30)
        await recovered(stub, question(1001))
        await load.stop()
    assert load.wrong == 0


async def test_without_valkey_one_replica_still_sends_one_upstream(valkey_cache: Valkey, tmp_path: Path) -> None:
    async with replicas(valkey_cache.url, tmp_path, **BUDGET) as (stub,):
        valkey_cache.process.pause()
        try:
            upstream = Upstream(words=10, pause=0.1)
            gateway = Gateway(stub, upstream)
            said = await asyncio.gather(*(gateway.ask(asking()) for _ in range(50)))
            await gateway.kill()
        finally:
            valkey_cache.process.resume()
    assert upstream.calls == 1
    assert len({one.text for one in said}) == 1


async def test_started_without_valkey_the_service_serves_and_finds_it_later(
    valkey_cache: Valkey, tmp_path: Path
) -> None:
    valkey_cache.process.kill()
    async with replicas(valkey_cache.url, tmp_path, **BUDGET) as (stub,):
        assert kind(await lookup(stub, question(0))) == "miss"
        wait_until_ready([valkey_cache.start()], timeout=30)
        await recovered(stub, question(1))
        assert kind(await lookup(stub, question(1))) == "hit"


async def test_followers_are_answered_when_valkey_goes_in_the_middle(valkey_cache: Valkey, tmp_path: Path) -> None:
    """The filler goes on for its own caller; one follower of the replica begins anew for the rest."""
    async with replicas(valkey_cache.url, tmp_path, 2, **BUDGET) as stubs:
        upstream = Upstream(words=40, pause=0.05)
        first, second = Gateway(stubs[0], upstream), Gateway(stubs[1], upstream)
        leading = first.ask(asking())
        await asyncio.sleep(0.3)
        following = [second.ask(asking()) for _ in range(20)]
        await asyncio.sleep(0.7)
        valkey_cache.process.pause()
        try:
            said = await asyncio.gather(leading, *following)
        finally:
            valkey_cache.process.resume()
        await first.kill()
        await second.kill()
    assert all(one.text.startswith("word 0 of answer ") and one.text.count("word") == 40 for one in said)
    assert upstream.calls <= 3


@pytest.fixture
def limited(valkey_cache: Valkey) -> Any:
    """Sets the server's memory limit and policy; both are as before afterwards."""

    def limit(memory: str, policy: str) -> None:
        valkey_cache.command("CONFIG", "SET", "maxmemory-policy", policy)
        valkey_cache.command("CONFIG", "SET", "maxmemory", memory)

    yield limit
    limit("256mb", "allkeys-lfu")


async def test_an_eviction_storm_costs_hits_and_nothing_else(
    valkey_cache: Valkey, tmp_path: Path, limited: Any, long_form: bool
) -> None:
    count = 30_000 if long_form else 2000
    async with replicas(valkey_cache.url, tmp_path, valkey_timeout_seconds=1.0, local_bytes=0) as (stub,):
        await fill(stub, 200)
        load = Load(stub, questions=count)
        load.start()
        used = int(valkey_cache.command("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0])
        limited(str(used + 200_000), "allkeys-lfu")
        for start in range(0, count, 50):
            made = [store(stub, question(n), answer(text(n))) for n in range(start, start + 50)]
            await asyncio.gather(*made)
        await load.stop()
    evicted = int(valkey_cache.command("INFO", "stats").split(b"evicted_keys:")[1].split(b"\r")[0])
    assert evicted > count // 4
    assert load.wrong == 0
    assert set(load.kinds) <= {"hit", "miss"}


async def test_when_valkey_is_full_hits_go_on_and_new_answers_stay_here(
    valkey_cache: Valkey, tmp_path: Path, limited: Any
) -> None:
    async with replicas(valkey_cache.url, tmp_path, valkey_timeout_seconds=1.0) as (stub,):
        await fill(stub, 5)
        limited("1", "noeviction")
        assert kind(await lookup(stub, question(1))) == "hit"
        upstream = Upstream(words=10, pause=0.05)
        gateway = Gateway(stub, upstream)
        said = await asyncio.gather(*(gateway.ask(question(77)) for _ in range(20)))
        await gateway.kill()
        assert upstream.calls == 1
        assert len({one.text for one in said}) == 1
        assert kind(await lookup(stub, question(77))) == "hit"
        limited("256mb", "allkeys-lfu")
        assert await recovered(stub, question(78)) < RECOVERY_SECONDS


async def test_control_the_load_notices_a_wrong_answer(valkey_cache: Valkey, tmp_path: Path) -> None:
    async with replicas(valkey_cache.url, tmp_path, valkey_timeout_seconds=1.0) as (stub,):
        await store(stub, question(0), answer(text(1)))
        load = Load(stub, questions=1)
        load.start(callers=1)
        async with asyncio.timeout(10):
            while not load.kinds:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await load.stop()
    assert load.wrong > 0
