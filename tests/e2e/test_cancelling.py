"""A cancel that arrives at another gateway than the one that answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from devstack.stack import Plan, Stack
from tests.harness.emulator import Emulator
from tests.harness.events import parse
from tests.harness.system import Person, sign_up

pytestmark = pytest.mark.timeout(180)

_SETTINGS = {"FOCUS_GEMINI_LIMITS": '{"*": {"*": {}}}'}
# Longer than a test takes: a turn that is not cancelled is still running at its end.
_TALK = {"match": "", "text": "And so on and on. " * 400, "chunk_chars": 18, "chunk_delay_seconds": 0.2}


@pytest.fixture(scope="module")
def house(scratch: Path) -> Iterator[Stack]:
    """Three gateways before two session processes."""
    plan = Plan(
        scratch / f"cancel-{secrets.token_hex(4)}",
        backend="scripted",
        gateways=3,
        sessions=2,
        durable=False,
        settings=_SETTINGS,
    )
    with Stack(plan) as running:
        yield running


@pytest.fixture
def upstream(house: Stack) -> Iterator[Emulator]:
    assert house.emulator is not None
    emulator = Emulator(house.emulator)
    emulator.reset()
    emulator.script(_TALK)
    yield emulator
    emulator.close()


@pytest.fixture
def ada(house: Stack) -> Iterator[Person]:
    with ExitStack() as closing:
        yield sign_up(house.base_url, closing)


def at(house: Stack, person: Person, gateway: int) -> httpx2.Client:
    """The person's client at one of the gateways."""
    headers = {"Authorization": person.client.headers["Authorization"]}
    return httpx2.Client(base_url=house.gateways[gateway].url, headers=headers, trust_env=False, timeout=60)


def turns_of(person: Person) -> str:
    reply = person.client.post("/v1/conversations", json={})
    assert reply.status_code == 201, reply.text
    return f"/v1/conversations/{reply.json()['conversation_id']}/turns"


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_partial_text_is_stored_and_the_call_upstream_ends(house: Stack, upstream: Emulator, ada: Person) -> None:
    path = turns_of(ada)
    with (
        at(house, ada, 0) as asking,
        at(house, ada, 1) as cancelling,
        asking.stream(
            "POST", path, json={"question": "Go on?", "mode": "junior"}, headers={"Accept": "text/event-stream"}
        ) as reply,
    ):
        turn = f"{path}/{reply.headers['x-turn-id']}"
        events = parse(reply)
        shown = next(event.data["text"] for event in events if event.name == "delta")
        answered = cancelling.post(f"{turn}/cancel")
        assert (answered.status_code, answered.json()["outcome"]) == (200, "cancelled"), answered.text
        rest = list(events)
        shown += "".join(event.data["text"] for event in rest if event.name == "delta")
        done = rest[-1]
        again = cancelling.post(f"{turn}/cancel")
    assert (done.name, done.data["outcome"], done.data["answer"]) == ("done", "cancelled", shown)
    assert shown
    assert len(shown) < len(str(_TALK["text"])) / 2
    assert (again.status_code, again.json()["outcome"]) == (200, "cancelled")
    (stored,) = ada.client.get(path.removesuffix("/turns")).json()["turns"]
    assert (stored["outcome"], stored["answer"]) == ("cancelled", shown)
    until(lambda: totals(upstream)["cancelled"] == 1)
    assert totals(upstream) == {"arrivals": 1, "completed": 0, "cancelled": 1}


def test_a_turn_that_waits_at_another_gateway_gives_its_place_up(house: Stack, upstream: Emulator, ada: Person) -> None:
    path = turns_of(ada)
    body = {"question": "Go on?", "mode": "junior"}
    sse = {"Accept": "text/event-stream"}
    with (
        at(house, ada, 0) as first,
        at(house, ada, 1) as second,
        at(house, ada, 2) as third,
        ThreadPoolExecutor() as pool,
        first.stream("POST", path, json=body, headers=sse) as running,
    ):
        events = parse(running)
        next(event for event in events if event.name == "delta")
        with second.stream("POST", path, json=body, headers=sse) as waiting:
            queued = parse(waiting)
            assert next(queued).name == "queued"
            answered = third.post(f"{path}/{waiting.headers['x-turn-id']}/cancel")
            assert (answered.status_code, answered.json()["outcome"]) == (200, "cancelled"), answered.text
            assert [event.name for event in queued][-1] == "error"
        ended = pool.submit(lambda: [event.name for event in events][-1])
        stopped = third.post(f"{path}/{running.headers['x-turn-id']}/cancel")
        assert stopped.json()["outcome"] == "cancelled"
        assert ended.result() == "done"
    assert ada.client.get(path.removesuffix("/turns")).json()["turn_count"] == 1
    assert totals(upstream)["arrivals"] == 1


def test_a_turn_of_a_gateway_that_was_killed_is_not_found_and_the_next_one_begins(
    house: Stack, upstream: Emulator, ada: Person
) -> None:
    path = turns_of(ada)
    with at(house, ada, 1) as cancelling, at(house, ada, 2) as asking:
        with asking.stream(
            "POST", path, json={"question": "Go on?", "mode": "junior"}, headers={"Accept": "text/event-stream"}
        ) as reply:
            next(parse(reply))
            turn_id = reply.headers["x-turn-id"]
            house.gateways[2].process.kill()
        try:
            # While its holder's row lives, the cancel waits for the turn's end.
            answered = cancelling.post(f"{path}/{turn_id}/cancel")
            assert answered.json().get("outcome") == "cancelled" or answered.status_code == 404, answered.text
            upstream.script({"match": "", "text": "Yes."})
            assert cancelling.post(path, json={"question": "And now?"}).json()["answer"] == "Yes."
        finally:
            house.gateways[2].restart()


def totals(upstream: Emulator) -> dict[str, int]:
    """Of all models together."""
    models = upstream.stats()["models"]
    return {name: sum(one[name] for one in models) for name in ("arrivals", "completed", "cancelled")}
