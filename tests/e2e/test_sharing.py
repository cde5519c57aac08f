"""One of many who ask the same, at whichever gateway, is answered by the model; the others get its answer.

Three gateways and two caches of their own, over one Valkey; the emulator counts what went upstream.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devstack.stack import Plan, Stack
from tests.harness.emulator import Emulator
from tests.harness.system import PATIENT, Person, sign_up
from tests.integration.gateway.events import events_of

SSE = {"Accept": "text/event-stream"}
PIECES = [f"piece {number}; " for number in range(20)]
ANSWER = "".join(PIECES)
# For a line of two megabytes.
_LONG = 1 << 22
# An answer is fresh for a second here.
SHORT = {**PATIENT, "FOCUS_CACHE_TTL_SECONDS": "1"}


@pytest.fixture(scope="module")
def fleet(deployed_url: str | None, scratch: Path) -> Iterator[Stack]:
    if deployed_url:
        pytest.skip("this test stops and steers parts of its own system")
    plan = Plan(scratch / "fleet", backend="scripted", gateways=3, caches=2, durable=False, settings=SHORT)
    with Stack(plan) as running:
        yield running


@pytest.fixture
def upstream(fleet: Stack) -> Iterator[Emulator]:
    assert fleet.emulator is not None
    emulator = Emulator(fleet.emulator)
    emulator.reset()
    yield emulator
    emulator.reset()
    emulator.close()


@pytest.fixture(scope="module")
def somebody(fleet: Stack) -> Iterator[Person]:
    with ExitStack() as closing:
        yield sign_up(fleet.base_url, closing)


@pytest.fixture
async def asking(fleet: Stack, somebody: Person) -> AsyncIterator[Asking]:
    headers = {"Authorization": f"Bearer {somebody.tokens['access_token']}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as http:
        yield Asking(http, [gateway.url for gateway in fleet.gateways])


class Asking:
    """Asks one question that nobody asked before, at any of the gateways."""

    def __init__(self, http: aiohttp.ClientSession, urls: list[str]) -> None:
        self._http, self._urls = http, urls
        self._question = {"question": f"Tell me about {secrets.token_hex(8)}"}

    def stream(self, gateway: int, buffer: int = 1 << 16) -> Any:
        """A stream of which the client takes so many bytes before somebody reads them."""
        url = self._urls[gateway] + "/v1/ask"
        return self._http.post(url, json=self._question, headers=SSE, read_bufsize=buffer)

    async def whole(self, gateway: int, **headers: str) -> tuple[str, str]:
        """Where the answer came from, and its text."""
        url = self._urls[gateway] + "/v1/ask"
        async with self._http.post(url, json=self._question, headers=headers) as response:
            body = await response.json()
            assert response.status == 200, body
            assert response.headers["x-cache"] == body["cache"]
            return body["cache"], body["answer"]

    async def streamed(self, gateway: int) -> tuple[str, str]:
        """The same, from a stream whose deltas a reader put together."""
        async with self.stream(gateway, _LONG) as response:
            assert response.status == 200
            return await read(events_of(response))


async def read(events: AsyncIterator[tuple[str, Any]]) -> tuple[str, str]:
    said: list[str] = []
    async for name, data in events:
        if name == "delta":
            said.append(data["text"])
        elif name == "restarted":
            said.clear()
        elif name == "done":
            assert "".join(said) == data["answer"]
            return data["cache"], data["answer"]
        else:
            assert name in (":", "escalated", "queued"), data
    raise AssertionError("the stream ended without an end")


def slowly(upstream: Emulator, *, text: str = ANSWER, seconds: float = 0.1) -> None:
    """The model says it in pieces, with a pause after each."""
    pieces = text.split(" ")
    chunks = [f"{piece} " for piece in pieces[:-1]] + [pieces[-1]]
    upstream.script({"chunks": [one for one in chunks if one], "chunk_delay_seconds": seconds})


async def test_of_a_thousand_who_ask_at_once_one_goes_upstream(upstream: Emulator, asking: Asking) -> None:
    slowly(upstream)
    ask = [asking.streamed, asking.whole]
    answers = await asyncio.gather(*(ask[number % 2](number % 3) for number in range(1000)))
    assert upstream.stats()["arrivals"] == 1
    assert {text for _, text in answers} == {ANSWER}
    uses = Counter(use for use, _ in answers)
    assert uses["miss"] == 1
    assert uses["coalesced"] + uses["hit"] == 999


async def test_control_who_wants_nothing_stored_goes_upstream_alone(upstream: Emulator, asking: Asking) -> None:
    upstream.limits(limits={"*": {"*": {}}})
    slowly(upstream)
    answers = await asyncio.gather(*(asking.whole(number % 3, **{"Cache-Control": "no-store"}) for number in range(5)))
    assert upstream.stats()["arrivals"] == 5
    assert {use for use, _ in answers} == {"miss"}


async def test_without_any_cache_each_gateway_asks_once(fleet: Stack, upstream: Emulator, asking: Asking) -> None:
    for cache in fleet.caches:
        cache.process.kill()
    try:
        slowly(upstream)
        ask = [asking.streamed, asking.whole]
        answers = await asyncio.gather(*(ask[number % 2](number % 3) for number in range(60)))
        assert upstream.stats()["arrivals"] == 3
        assert Counter(answers) == {("miss", ANSWER): 3, ("coalesced", ANSWER): 57}
    finally:
        for cache in fleet.caches:
            cache.restart()
    upstream.reset()
    # Five seconds after they are back every gateway uses them again.
    async with asyncio.timeout(5):
        while Counter([(await asking.whole(number % 3))[0] for number in range(6)]) != {"hit": 6}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_who_comes_later_sees_the_answer_from_its_start_while_it_is_written(
    upstream: Emulator, asking: Asking
) -> None:
    """The upstream holds the end back until the follower has seen the beginning."""
    slowly(upstream)
    async with asking.stream(0) as leading:
        first = events_of(leading)
        seen = [(await anext(first))[1]["text"] for _ in range(5)]
        async with asking.stream(1) as following:
            assert following.headers["x-cache"] == "coalesced"
            second = events_of(following)
            followed = [(await anext(second))[1]["text"] for _ in range(6)]
            assert sum(one["completed"] for one in upstream.stats()["models"]) == 0
            assert followed[:5] == seen
            followed += [data["text"] async for name, data in second if name == "delta"]
        seen += [data["text"] async for name, data in first if name == "delta"]
    assert followed == seen
    assert "".join(seen) == ANSWER


async def test_when_the_filling_gateway_is_killed_all_who_follow_get_one_clean_answer(
    fleet: Stack, upstream: Emulator, asking: Asking
) -> None:
    slowly(upstream, text="The first word is this and what comes after it is lost", seconds=0.3)
    async with asking.stream(0) as leading:
        events = events_of(leading)
        await anext(events)
        others = [await asking.stream(1 + number % 2) for number in range(10)]
        watching = [events_of(response) for response in others]
        for one in watching:
            assert (await anext(one))[0] == "delta"
        slowly(upstream, text="Quite another answer it is.", seconds=0.05)
        fleet.gateways[0].process.kill()
        killed = time.time()
    try:
        answers = await asyncio.gather(*(read(one) for one in watching))
        assert {text for _, text in answers} == {"Quite another answer it is."}
        assert sorted(use for use, _ in answers) == ["coalesced"] * 9 + ["miss"]
        assert upstream.stats()["arrivals"] == 2
        again = max(one["last_arrival"] for one in upstream.stats()["models"])
        print(f"taken over after {again - killed:.2f} s")
        assert again - killed <= 2.0
    finally:
        for response in others:
            response.close()
        fleet.gateways[0].restart()


async def test_control_while_the_filling_gateway_lives_nobody_takes_over(upstream: Emulator, asking: Asking) -> None:
    """As above without the kill: the answer outlives several terms of its lease."""
    slowly(upstream, text="The first word is this and what comes after it is not lost", seconds=0.3)
    async with asking.stream(0) as leading:
        events = events_of(leading)
        await anext(events)
        answers = await asyncio.gather(*(asking.streamed(1 + number % 2) for number in range(10)))
    assert {use for use, _ in answers} == {"coalesced"}
    assert upstream.stats()["arrivals"] == 1


async def test_a_filler_whose_client_leaves_goes_on_while_somebody_follows(upstream: Emulator, asking: Asking) -> None:
    slowly(upstream)
    leading = await asking.stream(0)
    await anext(events_of(leading))
    following = await asking.stream(1)
    events = events_of(following)
    await anext(events)
    leading.close()
    said = "".join([data["text"] async for name, data in events if name == "delta"])
    assert ANSWER.endswith(said)
    assert upstream.stats()["arrivals"] == 1
    assert await asking.whole(2) == ("hit", ANSWER)


async def test_control_a_filler_whom_nobody_follows_stops_with_its_client(upstream: Emulator, asking: Asking) -> None:
    slowly(upstream, seconds=0.3)
    leading = await asking.stream(0)
    await anext(events_of(leading))
    leading.close()
    async with asyncio.timeout(10):
        while not upstream.stats()["cancelled"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    slowly(upstream, seconds=0.0)
    assert (await asking.whole(1))[0] == "miss"


async def test_who_does_not_read_holds_nobody_up(upstream: Emulator, asking: Asking) -> None:
    """Megabytes, of which one follower reads nothing at all."""
    upstream.script({"chunks": ["x" * 50_000] * 40, "chunk_delay_seconds": 0.02})
    leading = await asking.stream(0, _LONG)
    events = events_of(leading)
    await anext(events)
    slow = await asking.stream(1)
    others = await asyncio.gather(*(asking.streamed(number % 3) for number in range(6)))
    assert {len(text) for _, text in others} == {2_000_000}
    assert [name async for name, _ in events][-1] == "done"
    assert upstream.stats()["arrivals"] == 1
    slow.close()
    leading.close()


async def test_nobody_waits_while_an_answer_is_generated_anew(upstream: Emulator, asking: Asking) -> None:
    """Past its time it is given at once, though the model says nothing for as long as it likes."""
    upstream.script({"text": "Old."})
    assert await asking.whole(0) == ("miss", "Old.")
    await asyncio.sleep(1.1)
    upstream.script({"text": "New.", "delay_seconds": 3.0})
    answers = await asyncio.gather(*(asking.whole(number % 3) for number in range(30)))
    assert Counter(answers) == {("stale", "Old."): 30}
    stats = upstream.stats()
    assert sum(one["completed"] for one in stats["models"]) == 1
    assert stats["arrivals"] <= 2  # one of thirty refreshes
    async with asyncio.timeout(20):
        while (await asking.whole(0))[1] != "New.":  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_control_who_refuses_what_is_stale_waits(upstream: Emulator, asking: Asking) -> None:
    upstream.script({"text": "Old."})
    assert await asking.whole(0) == ("miss", "Old.")
    upstream.script({"text": "New.", "delay_seconds": 0.5})
    assert await asking.whole(1, **{"Cache-Control": "no-cache"}) == ("miss", "New.")
