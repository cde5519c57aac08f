"""How long a look-up takes tells one tenant nothing about what another has asked (arXiv 2409.20002)."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from functools import lru_cache

import pytest

from devstack.valkey import Valkey
from services.cache.answers import Answers, Made, Terms
from services.cache.freshness import Freshness
from services.cache.keys import Asked, Scope
from services.cache.rules import Rules
from services.cache.store import ValkeyStore
from services.cache.valkey.client import Client
from services.cache.valkey.connection import Address
from tests.integration.cache.fleet import answer
from tests.integration.cache.test_isolation import answers


def asked(tenant: str, number: int) -> Asked:
    return Asked(tenant, "", Scope.TENANT, f"Question {number}?", 1, "", 0, None, "")


def auc(ones: list[float], others: list[float]) -> float:
    """The chance that the first kind takes longer (Mann-Whitney), at least one half: who attacks may guess the sign."""
    ranked = sorted([(value, 1) for value in ones] + [(value, 0) for value in others])
    ranks = sum(rank for rank, (_, kind) in enumerate(ranked, 1) if kind)
    share = (ranks - len(ones) * (len(ones) + 1) / 2) / (len(ones) * len(others))
    return max(share, 1 - share)


@pytest.fixture
async def cache(valkey_cache: Valkey) -> AsyncIterator[Answers]:
    client = Client(Address.parse(valkey_cache.url), budget=5)
    assert await client.ready(5)
    yield answers(ValkeyStore(client, Freshness()))
    await client.close()


async def measured(cache: Answers, tenant: str, count: int) -> float:
    """AUC of telling questions that the first tenant has stored from others, by the time a look-up takes.

    Stored and other questions come in random order, each once, so that a busy moment of
    the machine meets both kinds alike.
    """
    for number in range(0, count, 2):
        await cache.keep(asked("first", number), answer("x" * 2000), Made())
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)
    times: tuple[list[float], list[float]] = ([], [])
    for number in numbers:
        question = asked(tenant, number)
        started = time.perf_counter()
        await cache.lookup(question, Terms())
        times[number % 2].append(time.perf_counter() - started)
    return auc(*times)


async def test_timing_tells_nothing_across_tenants(cache: Answers, long_form: bool) -> None:
    share = await measured(cache, "second", 20_000 if long_form else 4000)
    print(f"AUC across tenants: {share:.3f}")
    assert share <= 0.55


async def test_control_a_memory_shared_by_tenants_is_seen(cache: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the rules' verdicts remembered for all tenants, which looks like a harmless optimisation."""
    monkeypatch.setattr(Rules, "time_dependent", lru_cache(maxsize=None)(Rules.time_dependent))
    share = await measured(cache, "second", 4000)
    print(f"AUC with a shared memory: {share:.3f}")
    assert share > 0.55
