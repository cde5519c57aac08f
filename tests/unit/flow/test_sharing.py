"""One of many who ask the same generates; the others see its answer, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from focus.cache.v1 import cache_pb2, entry_pb2
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2
from services.common.errors import Cancelled, DeadlineExceeded, Exhausted, FocusError, InvalidRequest, Unavailable
from services.flow.ask import AskRequest, run_ask
from services.flow.clients import Clients
from services.flow.deadline import Deadline
from services.flow.events import Delta, Event, Restarted
from services.flow.flight import Flight
from services.flow.holder import Holder
from services.flow.inquiry import Terms
from services.flow.question import Answered, Question
from tests.unit.flow.conftest import Ask, fly, settled
from tests.unit.flow.fakes import PRINCIPAL, World

OUT = Unavailable("The provider is down.", ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE, retry_after=2.0)


class Asking:
    """Asks one question again and again: each time in another process, or `here` in the same."""

    def __init__(self, world: World, holder: Holder) -> None:
        self._world, self._holder = world, holder

    def here(self, *, streaming: bool = True) -> Flight[Answered]:
        return self._ask(self._world.clients, Terms(), streaming=streaming)

    def __call__(self, *, streaming: bool = True, **control: bool | int) -> Flight[Answered]:
        terms = Terms(cache_pb2.CacheControl(**control))  # type: ignore[arg-type]
        return self._ask(self._world.process(), terms, streaming=streaming)

    def _ask(self, clients: Clients, terms: Terms, *, streaming: bool) -> Flight[Answered]:
        request = AskRequest(PRINCIPAL, "", Question("Why?"), terms=terms)
        deadline = Deadline.after(30)
        return fly(
            lambda course: run_ask(clients, self._holder, request, course, deadline),
            streaming=streaming,
            durable=False,
        )


@pytest.fixture
def ask(world: World, holder: Holder) -> Asking:
    return Asking(world, holder)


async def shown(flight: Flight[Answered]) -> list[Event]:
    """Everything that its client sees."""
    events: list[Event] = []
    while not flight.done or flight.course.events:
        events += await flight.next_events(5)
    return events


def text(events: list[Event]) -> str:
    """What a reader has before them in the end."""
    said: list[str] = []
    for event in events:
        if isinstance(event, Restarted):
            said.clear()
        elif isinstance(event, Delta):
            said.append(event.text)
    return "".join(said)


def store(world: World, **state: bool) -> None:
    """There is an answer already."""
    line = world.answers.line(Question("Why?").for_cache())
    line.answer = chat_pb2.Answer(text="Because.", model="old", cost_microusd=9)
    line.stored_at = time.time() - 100
    for name, value in state.items():
        setattr(line, name, value)


@pytest.mark.parametrize("streaming", [True, False])
async def test_who_asks_the_same_meanwhile_gets_the_same_deltas_for_nothing(
    world: World, ask: Asking, streaming: bool
) -> None:
    gate = world.trace.hold("piece")
    first = ask()
    await world.trace.until("piece")
    others = [ask(streaming=streaming) for _ in range(5)]
    await world.trace.until("follow", 5)
    # The backlog is there before the answer is.
    await world.trace.until("renew fills", 3)
    gate.set()
    events = [await shown(one) for one in others]
    answers = [await one.result() for one in others]
    assert (await first.result()).cache == "miss"
    assert world.trace.calls.count("generate") + world.trace.calls.count("complete") == 1
    assert {(one.cache, one.answer.text, one.answer.cost_microusd) for one in answers} == {
        ("coalesced", "Brasília.", 0)
    }
    assert all(one == [Delta("Bra"), Delta("sí"), Delta("lia.")] for one in events)


async def test_nothing_is_published_while_nobody_follows(world: World, ask: Asking) -> None:
    gate = world.trace.hold("piece")
    flight = ask()
    await world.trace.until("renew fills", 3)
    gate.set()
    await flight.result()
    assert world.answers.the_line().events in ({}, {b"fill-1": []})


async def test_an_answer_that_is_there_at_once_takes_three_calls(world: World, ask: Asking) -> None:
    await ask().result()
    assert [call for call in world.trace.calls if call != "piece"] == ["look_up", "generate", "store"]


async def test_when_the_filler_dies_a_follower_leads_and_the_others_see_one_clean_answer(
    world: World, ask: Asking
) -> None:
    world.trace.hold("piece")
    dead = ask()
    await world.trace.until("piece")
    others = [ask() for _ in range(3)]
    await world.trace.until("follow", 3)
    await world.trace.until("renew fills", 3)
    await settled()
    world.models.pieces = ["Quito", " it is."]
    world.trace.gates.clear()
    world.answers.expire()
    events = [await shown(one) for one in others]
    answers = [await one.result() for one in others]
    assert sorted(one.cache for one in answers) == ["coalesced", "coalesced", "miss"]
    assert {text(one) for one in events} == {one.answer.text for one in answers} == {"Quito it is."}
    assert all(Restarted() in one and one[0] == Delta("Bra") for one in events)
    dead.stop()


async def test_a_filler_whose_client_leaves_goes_on_for_those_who_follow(world: World, ask: Asking) -> None:
    gate = world.trace.hold("piece")
    first = ask()
    await world.trace.until("piece")
    other = ask()
    await world.trace.until("follow")
    first.leave()
    await world.trace.until("renew fills")
    gate.set()
    assert (await other.result()).cache == "coalesced"
    assert "stopped" not in world.trace.calls


async def test_a_follower_that_leaves_ends_alone(world: World, ask: Asking) -> None:
    gate = world.trace.hold("piece")
    first = ask()
    await world.trace.until("piece")
    other = ask()
    await world.trace.until("follow")
    other.leave()
    with pytest.raises(Cancelled):
        await other.result()
    gate.set()
    assert (await first.result()).answer.text == "Brasília."


async def test_an_explicit_stop_ends_a_followed_filler_and_another_takes_over(world: World, ask: Asking) -> None:
    world.trace.hold("piece")
    first = ask()
    await world.trace.until("piece")
    other = ask()
    await world.trace.until("follow")
    world.trace.gates.clear()
    first.stop()
    with pytest.raises(Cancelled):
        await first.result()
    assert (await other.result()).cache == "miss"


async def test_the_providers_failure_is_everybodys_and_asked_once(world: World, ask: Asking) -> None:
    gate = world.trace.hold("generate")
    world.trace.failures["generate"].append(OUT)
    flights = [ask() for _ in range(4)]
    await world.trace.until("follow", 3)
    gate.set()
    for flight in flights:
        with pytest.raises(FocusError) as caught:
            await flight.result()
        assert (caught.value.reason_name, caught.value.retry_after) == ("PROVIDER_UNAVAILABLE", 2.0)
    assert world.trace.calls.count("generate") == 1


async def test_a_callers_own_deadline_is_not_its_followers(world: World, ask: Asking) -> None:
    gate = world.trace.hold("generate")
    world.trace.failures["generate"].append(DeadlineExceeded("Out of time."))
    first, other = ask(), ask()
    await world.trace.until("follow")
    gate.set()
    with pytest.raises(DeadlineExceeded):
        await first.result()
    assert (await other.result()).answer.text == "Brasília."


async def test_a_stream_that_breaks_off_is_joined_again(world: World, ask: Asking) -> None:
    gate = world.trace.hold("piece")
    first = ask()
    await world.trace.until("piece")
    world.trace.failures["follow"].append(Unavailable("gone"))
    other = ask()
    await world.trace.until("follow", 2)
    gate.set()
    assert (await other.result()).cache == "coalesced"
    assert (await first.result()).answer.text == "Brasília."


async def test_without_room_to_follow_it_asks_alone(world: World, ask: Asking) -> None:
    gate = world.trace.hold("piece")
    first = ask()
    await world.trace.until("piece")
    world.trace.failures["follow"].append(Exhausted("Full.", ErrorReason.ERROR_REASON_OVERLOADED))
    other = ask()
    await world.trace.until("generate", 2)
    gate.set()
    assert [(await one.result()).answer.text for one in (first, other)] == ["Brasília."] * 2


async def test_a_hit_tells_its_age(world: World, ask: Asking) -> None:
    store(world)
    hit = await ask().result()
    assert (hit.cache, hit.answer.text, hit.entry) == ("hit", "Because.", b"entry")
    assert hit.age is not None
    assert 100 <= hit.age <= 102


async def test_a_stale_answer_is_given_at_once_and_refreshed_behind_everybody(world: World, ask: Asking) -> None:
    store(world, stale=True, due=True)
    gate = world.trace.hold("generate")
    stale = await ask().result()
    assert (stale.cache, stale.answer.text) == ("stale", "Because.")
    await world.trace.until("generate")
    assert (await ask().result()).cache == "stale"
    gate.set()
    await world.trace.until("store")
    await settled()
    assert (await ask().result()).answer.text == "Brasília."
    assert [prompt.priority for prompt in world.models.prompts] == [llm_pb2.PRIORITY_WARMING]
    assert [kept.origin for kept in world.answers.kept] == [entry_pb2.ORIGIN_REFRESH]


async def test_a_refresh_gives_way_when_quota_is_short(world: World, ask: Asking) -> None:
    store(world, stale=True, due=True)
    world.models.queued = True
    await ask.here().result()
    await world.trace.until("release fills")
    assert "stopped" in world.trace.calls
    assert world.answers.released[0].failure.reason == ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED
    await ask.here().result()
    assert [looked.may_refresh for looked in world.answers.looked] == [True, False]


async def test_an_old_answer_is_better_than_a_provider_that_is_out(world: World, ask: Asking) -> None:
    store(world, expired=True)
    gate = world.trace.hold("generate")
    world.trace.failures["generate"].append(OUT)
    flights = [ask() for _ in range(3)]
    await world.trace.until("follow", 2)
    gate.set()
    answers = [await flight.result() for flight in flights]
    assert {(one.cache, one.answer.text) for one in answers} == {("stale", "Because.")}
    assert world.trace.calls.count("generate") == 1


async def test_control_a_refusal_is_told_though_there_is_an_old_answer(world: World, ask: Asking) -> None:
    store(world, expired=True)
    world.trace.failures["generate"].append(InvalidRequest("No.", ErrorReason.ERROR_REASON_ANSWER_BLOCKED))
    with pytest.raises(FocusError) as caught:
        await ask().result()
    assert caught.value.reason == ErrorReason.ERROR_REASON_ANSWER_BLOCKED


async def test_only_if_cached_asks_no_model(world: World, ask: Asking) -> None:
    with pytest.raises(FocusError) as caught:
        await ask(only_if_cached=True).result()
    assert caught.value.reason == ErrorReason.ERROR_REASON_NOT_CACHED
    world.trace.failures["look_up"].append(OUT)
    with pytest.raises(FocusError) as caught:
        await ask(only_if_cached=True).result()
    assert caught.value.reason == ErrorReason.ERROR_REASON_NOT_CACHED
    assert world.trace.calls == ["look_up", "look_up"]
    store(world)
    assert (await ask(only_if_cached=True).result()).cache == "hit"


async def test_no_store_leaves_nothing_behind(world: World, ask: Asking) -> None:
    assert (await ask(no_store=True).result()).cache == "miss"
    assert world.answers.kept == []


async def test_no_cache_generates_anew_and_stores(world: World, ask: Asking) -> None:
    store(world)
    assert (await ask(no_cache=True).result()).cache == "miss"
    assert (await ask().result()).answer.text == "Brasília."


async def test_first_turns_share_an_answer_and_each_is_stored(world: World, turn: Ask) -> None:
    conversations = [world.turns.conversation() for _ in range(3)]
    gate = world.trace.hold("piece")
    flights = [turn(name, "Why?", probably_first=True) for name in conversations]
    await world.trace.until("follow", 2)
    gate.set()
    assert sorted([(await flight.result()).cache for flight in flights]) == ["coalesced", "coalesced", "miss"]
    assert [world.turns.conversations[name].turns[0].answer.text for name in conversations] == ["Brasília."] * 3
    assert world.trace.calls.count("generate") == 1


async def test_a_lease_that_a_guess_brought_is_given_back(world: World, turn: Ask) -> None:
    """The turn has a history after all: nobody may wait for an answer that it never generates."""
    name = world.turns.conversation()
    await turn(name, "First?").result()
    gate = world.trace.hold("begin")
    second = turn(name, "Why?", probably_first=True)
    await world.trace.until("look_up", 2)
    await settled()
    gate.set()
    assert (await second.result()).cache == "bypass"
    await world.trace.until("release fills")
    await asyncio.sleep(0)
    assert world.answers.line(Question("Why?").for_cache()).lease == b""


@pytest.mark.parametrize("streaming", [True, False])
async def test_in_one_process_one_asks_for_all(world: World, ask: Asking, streaming: bool) -> None:
    gate = world.trace.hold("piece")
    first = ask.here()
    await world.trace.until("piece")
    others = [ask.here(streaming=streaming) for _ in range(5)]
    await settled()
    assert [await one.next_events(5) for one in others] == [[Delta("Bra")]] * 5
    gate.set()
    events = [await shown(one) for one in others]
    answers = [await one.result() for one in others]
    assert ((await first.result()).cache, (await first.result()).answer.cost_microusd) == ("miss", 7)
    assert {(one.cache, one.answer.text, one.answer.cost_microusd) for one in answers} == {
        ("coalesced", "Brasília.", 0)
    }
    assert all(one == [Delta("sí"), Delta("lia.")] for one in events)
    assert [call for call in world.trace.calls if call in ("look_up", "generate", "store")] == [
        "look_up",
        "generate",
        "store",
    ]


async def test_without_the_cache_one_process_asks_the_model_once(world: World, ask: Asking) -> None:
    world.trace.failures["look_up"].extend([OUT] * 10)
    gate = world.trace.hold("generate")
    flights = [ask.here() for _ in range(5)]
    await world.trace.until("generate")
    gate.set()
    assert {(await flight.result()).answer.text for flight in flights} == {"Brasília."}
    assert world.trace.calls.count("generate") == 1


async def test_in_one_process_the_first_to_ask_may_leave(world: World, ask: Asking) -> None:
    gate = world.trace.hold("piece")
    first = ask.here()
    await world.trace.until("piece")
    other = ask.here()
    await settled()
    first.leave()
    await settled()
    gate.set()
    assert (await other.result()).cache == "coalesced"
    assert "stopped" not in world.trace.calls


async def test_in_one_process_another_begins_anew_after_a_stop(world: World, ask: Asking) -> None:
    world.trace.hold("piece")
    first = ask.here()
    await world.trace.until("piece")
    others = [ask.here() for _ in range(3)]
    await settled()
    world.models.pieces = ["Quito", " it is."]
    world.trace.gates.clear()
    gate = world.trace.hold("look_up")
    first.stop()
    await world.trace.until("look_up", 2)
    await settled()
    gate.set()
    events = [await shown(one) for one in others]
    assert sorted([(await one.result()).cache for one in others]) == ["coalesced", "coalesced", "miss"]
    assert {text(one) for one in events} == {"Quito it is."}
    assert world.trace.calls.count("generate") == 2


async def test_in_one_process_a_failure_is_everybodys(world: World, ask: Asking) -> None:
    gate = world.trace.hold("generate")
    world.trace.failures["generate"].append(OUT)
    flights = [ask.here() for _ in range(4)]
    await world.trace.until("generate")
    gate.set()
    for flight in flights:
        with pytest.raises(FocusError) as caught:
            await flight.result()
        assert (caught.value.reason_name, caught.value.retry_after) == ("PROVIDER_UNAVAILABLE", 2.0)
    assert world.trace.calls.count("generate") == 1


async def test_other_wishes_are_not_joined(world: World, ask: Asking) -> None:
    gate = world.trace.hold("generate")
    first, second = ask.here(), ask(no_store=True)
    await world.trace.until("generate", 2)
    gate.set()
    assert [(await one.result()).cache for one in (first, second)] == ["miss", "miss"]
