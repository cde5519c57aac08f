"""No reply and no answer ever reaches somebody it was not meant for, whoever gives up when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devstack.valkey import Valkey
from services.cache.admission import Admission
from services.cache.answers import Answers, Made, Terms
from services.cache.entries import Coder, KeyRing
from services.cache.freshness import Freshness
from services.cache.keys import Asked, Scope
from services.cache.marks import Marks
from services.cache.rules import Rules
from services.cache.storage import AnswerStore
from services.cache.store import ValkeyStore
from services.cache.valkey.client import Client
from services.cache.valkey.connection import Address
from services.cache.valkey.wire import Argument, Wire
from tests.integration.cache.fleet import SECRET, answer

OPERATIONS = 10_000


class ForgetfulWire(Wire):
    """Has the defect of CVE-2023-28858: who gives up takes its place in line along."""

    def send(self, *arguments: Argument) -> asyncio.Future[Any]:
        future = super().send(*arguments)

        def forget(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                self._pending = type(self._pending)(one for one in self._pending if one[1] is not done)

        future.add_done_callback(forget)
        return future


async def crossings(server: Valkey, kind: type[Wire]) -> int:
    """Of 10,000 random reads, a third of them given up, how many got another's value."""
    address = Address.parse(server.url)
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: kind(5.0), address.host, address.port)
    for number in range(100):
        await wire.send("SET", f"key {number}", f"value {number}")
    dice, wrong = random.Random(7), 0

    async def read() -> bool:
        number = dice.randrange(100)
        reply = wire.send("GET", f"key {number}")
        if dice.random() < 0.33:
            await asyncio.sleep(0)
            reply.cancel()
            return True
        try:
            value: bytes | None = await asyncio.wait_for(reply, 1)
        except TimeoutError:
            return False
        return value == f"value {number}".encode()

    for _ in range(OPERATIONS // 50):
        wrong += (await asyncio.gather(*(read() for _ in range(50)))).count(False)
        if kind is ForgetfulWire and wrong:
            break
    wire.abort()
    return wrong


async def test_a_cancelled_command_never_answers_another_caller(valkey_cache: Valkey) -> None:
    assert await crossings(valkey_cache, Wire) == 0


async def test_control_a_client_that_forgets_cancelled_commands_crosses(valkey_cache: Valkey) -> None:
    assert await crossings(valkey_cache, ForgetfulWire) > 0


def answers(store: ValkeyStore) -> Answers:
    ring = KeyRing.derived(SECRET)
    coder = Coder(lambda: ring, 1024, 1 << 20)
    marks = Marks(store, lambda: SECRET)
    return Answers(store, lambda: SECRET, coder, marks, Admission(Rules.load(), 0.5))


def asked(tenant: int, number: int) -> Asked:
    return Asked(f"tenant {tenant}", "", Scope.TENANT, f"Question {number}?", 1, "", 0, None, "")


@dataclass
class Subject:
    """The cache and the model of it; both live through all examples."""

    cache: Answers
    # What each tenant ever stored for each question.
    model: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    entries: dict[tuple[int, int], bytes] = field(default_factory=dict)
    count: int = 0
    hits: int = 0

    async def carry_out(self, what: str, tenant: int, number: int) -> None:
        """One operation; a hit must be something that this tenant stored for this question."""
        place = (tenant, number)
        if what == "keep":
            self.count += 1
            text = f"Answer {self.count} to {number} for tenant {tenant}."
            # Known before it is sent: one that is given up may have been stored.
            self.model.setdefault(place, set()).add(text)
            self.entries[place] = (await self.cache.keep(asked(*place), answer(text), Made())).token
        elif what == "evict" and place in self.entries:
            await self.cache.evict(f"tenant {tenant}", self.entries[place])
        else:
            hit = (await self.cache.lookup(asked(*place), Terms())).hit
            if hit is not None:
                self.hits += 1
                assert hit.entry.answer.text in self.model.get(place, set())


@pytest.fixture
async def subject(valkey_cache: Valkey) -> AsyncIterator[Subject]:
    client = Client(Address.parse(valkey_cache.url), budget=5)
    assert await client.ready(5)
    subject = Subject(answers(ValkeyStore(client, Freshness())))
    yield subject
    await client.close()
    assert subject.hits > 500


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    seed=st.integers(0, 1 << 32),
    questions=st.integers(1, 6),
    given_up=st.sampled_from([0.0, 0.3, 0.7]),
    at_once=st.sampled_from([5, 50, 500]),
)
async def test_two_tenants_never_see_each_others_answers(
    subject: Subject, seed: int, questions: int, given_up: float, at_once: int
) -> None:
    """10,000 random operations in all on one connection, some given up."""
    dice = random.Random(seed)

    async def attempt() -> None:
        what = dice.choices(["lookup", "keep", "evict"], [6, 3, 1])[0]
        task = asyncio.create_task(subject.carry_out(what, dice.randrange(2), dice.randrange(questions)))
        if dice.random() < given_up:
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure

    for _ in range(OPERATIONS // 20 // at_once):
        await asyncio.gather(*(attempt() for _ in range(at_once)))


class Shared:
    """A store with the defect that all tenants share their keys."""

    def __init__(self, store: AnswerStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any) -> Any:
            return await method(*(b"k" * 32 if index == 0 else one for index, one in enumerate(arguments)))

        return call


async def test_control_even_with_shared_keys_a_foreign_value_does_not_open(valkey_cache: Valkey) -> None:
    """Values are bound to their keys: a store that mixes them up gives misses, not answers."""
    client = Client(Address.parse(valkey_cache.url), budget=5)
    assert await client.ready(5)
    mixed = answers(Shared(ValkeyStore(client, Freshness())))  # type: ignore[arg-type]
    await mixed.keep(asked(0, 1), answer("For tenant 0."), Made())
    assert (await mixed.lookup(asked(0, 1), Terms())).hit is not None
    assert (await mixed.lookup(asked(1, 1), Terms())).hit is None
    await client.close()
