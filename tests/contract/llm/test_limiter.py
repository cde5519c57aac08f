"""What every limiter promises: the one within a process and the one over Valkey pass the same tests."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from devstack.valkey import Valkey
from services.llm import catalogue_file
from services.llm.catalogue import Catalogue
from services.llm.memory import MemoryLimiter
from services.llm.providers.port import Endpoint, Usage
from services.llm.quota import ComeLater, Grant, Never, NoRetry, Place, Settlement, Windows, Wish, pool_name
from services.llm.store.limiter import Membership, Replay, ValkeyLimiter
from tests.integration.llm.load import catalogue

Limiter: TypeAlias = MemoryLimiter | ValkeyLimiter
Make: TypeAlias = Callable[..., Awaitable[Limiter]]

JUNIOR = Endpoint("p", "gemini-3.5-flash-lite")
OTHER = Endpoint("q", "gemini-3.5-flash-lite")
WINDOWS = Windows(0.6, 0.1, spend=600)
# For tests of the queue: a slot opens every 0.15 s.
QUEUE = Windows(3, 0.1)
# Long enough that nothing leaves the window within a test.
SLOW = Windows(60, 1)


@pytest_asyncio.fixture(params=["memory", "valkey"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes limiters for the limits of every model, such as `{rpm: 60}`."""
    opened: list[ValkeyLimiter] = []

    async def made(limits: str, windows: Windows = SLOW, spend: float | None = None, waiting: int = 1000) -> Limiter:
        text = catalogue(limits)
        if spend is not None:
            text = text.replace("paid: {limits", f"paid: {{spend_per_10_minutes_usd: {spend}, limits")
        found: Catalogue = catalogue_file.parse(text.encode(), "test")
        if request.param == "memory":
            clock = asyncio.get_running_loop().time
            return MemoryLimiter(windows, lambda: found, clock, most_waiting=waiting)
        valkey: Valkey = request.getfixturevalue("valkey")
        member = uuid.uuid4().hex
        limiter = ValkeyLimiter(
            valkey.url,
            windows,
            Membership(member, member),
            lambda: found,
            Replay(deque(), {}),
            lambda: [JUNIOR],
            timeout=5,
            most_waiting=waiting,
        )
        opened.append(limiter)
        await limiter.beat()
        return limiter

    yield made
    for limiter in opened:
        limiter.close()


def wish(
    tenant: str = "t",
    *,
    tokens: int = 10,
    cost: int = 1,
    priority: int = 0,
    at: Sequence[Endpoint] = (JUNIOR,),
    **more: Any,
) -> Wish:
    return Wish(uuid.uuid4().hex, "junior", tenant, priority, tokens, cost, at, 60.0, **more)


async def use(limiter: Limiter, endpoint: Endpoint = JUNIOR) -> dict[str, float]:
    if isinstance(limiter, MemoryLimiter):
        return limiter.use(endpoint)
    found: dict[str, float] = (await limiter.show([endpoint]))["pools"][pool_name(endpoint)]
    return found


async def granted(limiter: Limiter, count: int, **more: Any) -> list[Wish]:
    """The wishes of `count` grants; waits for the pace."""
    wishes = []
    for _ in range(count):
        one = wish(**more)
        outcome = await limiter.acquire(one, 30)
        if isinstance(outcome, Place):
            await served(limiter, [one], 1)
        else:
            assert isinstance(outcome, Grant)
        wishes.append(one)
    return wishes


@pytest.mark.parametrize("limits", ["{rpm: 20}", "{input_tpm: 200}", "{rpm: 30, input_tpm: 200}"])
async def test_no_window_of_the_provider_holds_more_than_its_limit(make: Make, limits: str) -> None:
    """However hard it is asked, and although it gives a little at once; 20 calls of 10 tokens fit into each."""
    limiter = await make(limits, WINDOWS)
    loop = asyncio.get_running_loop()
    times = []
    waiting: list[Wish] = []
    begin = loop.time()
    while loop.time() < begin + 4 * WINDOWS.minute:
        if len(waiting) < 5:
            one = wish()
            outcome = await limiter.acquire(one, 30)
            if isinstance(outcome, Grant):
                times.append(loop.time())
            else:
                waiting.append(one)
        polled = await limiter.poll("junior", sorted(waiting, key=lambda one: (one.score, one.entry)))
        for one, _ in polled.granted:
            times.append(loop.time())
            waiting.remove(one)
        await asyncio.sleep(min(polled.again, 0.005))
    most = max(bisect_count(times, start, WINDOWS.minute) for start in times)
    assert most <= 20
    assert len(times) > 40


def bisect_count(times: list[float], start: float, length: float) -> int:
    return sum(1 for time in times if start <= time < start + length)


async def test_a_day_has_its_limit(make: Make) -> None:
    limiter = await make("{rpm: 100, rpd: 5}")
    await granted(limiter, 5)
    outcome = await limiter.acquire(wish(), 30)
    assert isinstance(outcome, ComeLater)
    # Pacific midnight is at most 25 hours away.
    assert 0 < outcome.expected <= 25 * 3600
    assert (await use(limiter))["day_calls"] == 5


async def test_spend_has_its_limit_and_is_settled_to_the_real_cost(make: Make) -> None:
    limiter = await make("{rpm: 100}", spend=0.001)
    first = (await granted(limiter, 1, cost=900))[0]
    one = wish(cost=900)
    assert isinstance(await limiter.acquire(one, 60), Place)
    await limiter.settle([Settlement(first, JUNIOR, "done", Usage(10, 0, 1), cost=50)])
    assert (await use(limiter))["spent"] == 50
    assert [found for found, _ in (await limiter.poll("junior", [one])).granted] == [one]


async def test_everything_is_reserved_or_nothing(make: Make) -> None:
    limiter = await make("{rpm: 100, input_tpm: 100, rpd: 50}")
    await granted(limiter, 1, tokens=90)
    before = await use(limiter)
    assert not isinstance(await limiter.acquire(wish(tokens=90), 5), Grant)
    after = await use(limiter)
    assert {name: after[name] for name in ("calls", "tokens", "day_calls", "spent")} == {
        name: before[name] for name in ("calls", "tokens", "day_calls", "spent")
    }


async def test_the_estimates_surplus_is_free_once_settled(make: Make) -> None:
    limiter = await make("{input_tpm: 1000}")
    first = (await granted(limiter, 1, tokens=900))[0]
    await limiter.settle([Settlement(first, JUNIOR, "adjust", Usage(prompt=100))])
    assert (await use(limiter))["tokens"] == 100
    await limiter.settle([Settlement(first, JUNIOR, "done", Usage(prompt=950))])
    found = await use(limiter)
    assert (found["tokens"], found["overshoots"]) == (950, 1)


async def test_what_was_not_sent_is_given_back_wholly(make: Make) -> None:
    limiter = await make("{rpm: 100, rpd: 50, input_tpm: 1000}", spend=1)
    first = (await granted(limiter, 1))[0]
    await limiter.settle([Settlement(first, JUNIOR, "unsent")])
    found = await use(limiter)
    assert (found["calls"], found["tokens"], found["day_calls"], found["spent"]) == (0, 0, 0, 0)


async def test_other_endpoints_are_used_when_the_first_is_exhausted(make: Make) -> None:
    limiter = await make("{rpm: 2}")
    outcomes = [await limiter.acquire(wish(at=(JUNIOR, OTHER)), 30) for _ in range(4)]
    assert [outcome.endpoint.project for outcome in outcomes if isinstance(outcome, Grant)] == ["p", "p", "q", "q"]


async def test_a_prompt_beyond_every_limit_is_never_granted(make: Make) -> None:
    limiter = await make("{rpm: 100, input_tpm: 100}")
    assert isinstance(await limiter.acquire(wish(tokens=101), 30), Never)


async def served(limiter: Limiter, waiting: list[Wish], count: int) -> list[Wish]:
    order: list[Wish] = []
    while len(order) < count:
        found = [one for one, _ in (await limiter.poll("junior", waiting[:16])).granted]
        for one in found:
            waiting.remove(one)
        order += found
        await asyncio.sleep(0.005)
    return order


async def queued(limiter: Limiter, wishes: Sequence[Wish]) -> list[Wish]:
    for one in wishes:
        assert isinstance(await limiter.acquire(one, 3600), Place)
    return sorted(wishes, key=lambda one: (one.score, one.entry))


async def test_urgent_calls_go_first(make: Make) -> None:
    limiter = await make("{rpm: 20}", QUEUE)
    await full(limiter)
    waiting = await queued(limiter, [wish(priority=priority) for priority in (2, 1, 0, 2, 1, 0)])
    order = await served(limiter, waiting, 6)
    assert [one.priority for one in order] == [0, 0, 1, 1, 2, 2]


async def full(limiter: Limiter) -> None:
    """Takes what can be had at once."""
    while True:
        one = wish()
        if isinstance(await limiter.acquire(one, 30), Place):
            await limiter.leave("junior", [one])
            return


async def test_tenants_take_turns_by_tokens_whoever_came_first(make: Make) -> None:
    """A tenant with twenty calls in the queue does not make another one with two wait for them."""
    limiter = await make("{rpm: 20}", QUEUE)
    await full(limiter)
    noisy = [wish("noisy", tokens=300) for _ in range(20)]
    quiet = [wish("quiet", tokens=300) for _ in range(2)]
    waiting = await queued(limiter, [*noisy, *quiet])
    order = await served(limiter, waiting, 6)
    assert sum(1 for one in order if one.tenant_id == "quiet") == 2


async def test_a_tenant_with_longer_prompts_gets_fewer_calls(make: Make) -> None:
    limiter = await make("{rpm: 20}", QUEUE)
    await full(limiter)
    waiting = await queued(
        limiter, [*(wish("long", tokens=1024) for _ in range(10)), *(wish("short", tokens=256) for _ in range(10))]
    )
    order = await served(limiter, waiting, 10)
    counts = [sum(1 for one in order if one.tenant_id == tenant) for tenant in ("short", "long")]
    assert counts == [8, 2]


async def test_leaving_frees_the_place(make: Make) -> None:
    limiter = await make("{rpm: 5}")
    await full(limiter)
    first, second = await queued(limiter, [wish(), wish()])
    assert [place.position for place in await limiter.places("junior", [first, second])] == [1, 2]
    await limiter.leave("junior", [first])
    assert [place.position for place in await limiter.places("junior", [second])] == [1]


async def test_who_cannot_be_served_in_time_is_told_at_once_when_to_come(make: Make) -> None:
    limiter = await make("{rpm: 60}")
    await full(limiter)
    # One call a second or so; thirty in the queue.
    await queued(limiter, [wish() for _ in range(30)])
    outcome = await limiter.acquire(wish(), 5)
    assert isinstance(outcome, ComeLater)
    assert outcome.expected > 5
    assert 0 < outcome.seconds < 60


async def test_the_queue_is_bounded(make: Make) -> None:
    limiter = await make("{rpm: 5}", waiting=3)
    await full(limiter)
    outcomes = [await limiter.acquire(wish(), 3600) for _ in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Place, Place, Place, ComeLater]


async def test_a_cool_down_is_only_ever_extended(make: Make) -> None:
    limiter = await make("{rpm: 100}")
    await limiter.cool([JUNIOR], 30)
    await limiter.cool([JUNIOR], 1)
    assert (await use(limiter))["cool"] > 25_000
    assert isinstance(await limiter.acquire(wish(), 10), ComeLater)


async def test_an_unknown_limit_is_felt_out(make: Make) -> None:
    """The ceiling falls by a factor when it was met, once for a moment, and rises slowly while it is used."""
    limiter = await make("{rpm: 40, adaptive: true}", WINDOWS)
    await limiter.cool([JUNIOR], 0.0, lower=True)
    await limiter.cool([JUNIOR], 0.0, lower=True)
    lowered = (await use(limiter))["ceiling"]
    assert lowered == pytest.approx(28)
    for one in await granted(limiter, 40):
        await limiter.settle([Settlement(one, JUNIOR, "done", Usage(10))])
    assert lowered < (await use(limiter))["ceiling"] < 40


async def test_retries_stay_under_a_fifth_of_the_calls(make: Make) -> None:
    limiter = await make("{rpm: 100000}")
    calls, retries = 0, 0
    for _ in itertools.repeat(None, 200):
        await granted(limiter, 1)
        calls += 1
        if isinstance(await limiter.acquire(wish(retry=True), 30), Grant):
            retries += 1
    assert 30 <= retries <= calls * 0.2 + 3
    assert isinstance(await limiter.acquire(wish(retry=True), 30), NoRetry)
