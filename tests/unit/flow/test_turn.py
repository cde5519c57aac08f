"""A turn's flow over the services in memory: the order of calls, and what ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import turn_pb2
from services.common.errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Exhausted,
    FocusError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from services.flow.events import Delta, Escalated, Queued
from services.flow.flight import Flight
from services.flow.question import Committed, Repeatable
from tests.unit.flow.conftest import Ask, settled
from tests.unit.flow.fakes import World

AWAY = Unavailable("away", ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, retry_after=1.0)


def calls(world: World) -> list[str]:
    return [call for call in world.trace.calls if call not in ("renew", "piece")]


async def all_events(flight: Flight[Committed]) -> list[Any]:
    found: list[Any] = []
    while True:
        events = await flight.next_events(5)
        found += events
        if not events and flight.done:
            return found


async def test_a_first_turn_asks_and_fills_the_cache(world: World, turn: Ask) -> None:
    committed = await turn(world.turns.conversation(), "Why?").result()
    assert (committed.cache, committed.turn.answer.text, committed.turn.seq) == ("miss", "Brasília.", 1)
    assert calls(world)[:3] == ["begin", "look_up", "generate"]
    assert sorted(calls(world)[3:]) == ["commit", "store"]


async def test_a_turn_that_is_probably_first_asks_the_cache_beside_the_begin(world: World, turn: Ask) -> None:
    gate = world.trace.hold("begin")
    flight = turn(world.turns.conversation(), "Why?", probably_first=True)
    await world.trace.until("begin")
    await world.trace.until("look_up")
    assert "generate" not in calls(world)
    gate.set()
    assert (await flight.result()).cache == "miss"
    assert calls(world).count("look_up") == 1


async def test_a_wrong_guess_that_it_is_the_first_does_no_harm(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    await turn(conversation_id, "Why?").result()
    world.trace.calls.clear()
    committed = await turn(conversation_id, "How?", probably_first=True).result()
    assert committed.cache == "bypass"
    asked = [call for call in calls(world) if call not in ("look_up", "release fills")]
    assert asked == ["begin", "generate", "commit"]


async def test_a_turn_with_history_makes_three_calls(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    await turn(conversation_id, "Why?", streaming=False).result()
    world.trace.calls.clear()
    committed = await turn(conversation_id, "How?", streaming=False).result()
    assert (committed.cache, committed.turn.seq) == ("bypass", 2)
    assert calls(world) == ["begin", "complete", "commit"]
    said = [message.parts[0].text for message in world.models.prompts[-1].messages]
    assert said == ["Why?", "Brasília.", "How?"]


async def test_a_kept_answer_asks_no_model_and_costs_nothing(world: World, turn: Ask) -> None:
    await turn(world.turns.conversation(), "Why?").result()
    world.trace.calls.clear()
    committed = await turn(world.turns.conversation(), "Why?").result()
    assert (committed.cache, committed.turn.answer.text) == ("hit", "Brasília.")
    assert (committed.turn.answer.cost_microusd, committed.turn.answer.usage.output_tokens) == (0, 0)
    assert calls(world) == ["begin", "look_up", "commit"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_it_is_done_only_after_the_commit(world: World, turn: Ask, streaming: bool) -> None:
    gate = world.trace.hold("commit")
    flight = turn(world.turns.conversation(), "Why?", streaming=streaming)
    await world.trace.until("commit")
    await settled()
    assert not flight.done
    gate.set()
    assert (await flight.result()).turn.seq == 1


async def test_pieces_are_told_as_they_come(world: World, turn: Ask) -> None:
    gate = world.trace.hold("piece")
    flight = turn(world.turns.conversation(), "Why?")
    assert await flight.next_events(5) == [Delta("Bra")]
    assert await flight.next_events(0.01) == []
    gate.set()
    assert await all_events(flight) == [Delta("sí"), Delta("lia.")]


async def test_a_repeat_is_not_answered_again(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    repeatable = Repeatable("key", b"digest")
    first = await turn(conversation_id, "Why?", repeatable=repeatable).result()
    world.trace.calls.clear()
    again = await turn(conversation_id, "Why?", repeatable=repeatable).result()
    assert (again.replayed, again.turn) == (True, first.turn)
    assert calls(world) == ["begin"]


async def test_a_saved_failure_is_raised_again(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    blocked = InvalidRequest("Withheld.", ErrorReason.ERROR_REASON_ANSWER_BLOCKED)
    world.trace.failures["generate"].append(blocked)
    for replayed in (False, True):
        with pytest.raises(FocusError, match="Withheld") as caught:
            await turn(conversation_id, "Why?", repeatable=Repeatable("key", b"d")).result()
        assert caught.value.reason == ErrorReason.ERROR_REASON_ANSWER_BLOCKED
        assert ("replayed" in caught.value.metadata) == replayed
    assert calls(world).count("generate") == 1


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_answer_that_the_provider_withholds_is_a_failure_that_was_paid_for(
    world: World, turn: Ask, streaming: bool
) -> None:
    conversation_id = world.turns.conversation()
    world.models.pieces, world.models.finish_reason = [], chat_pb2.FINISH_REASON_SAFETY
    with pytest.raises(FocusError) as caught:
        await turn(conversation_id, "Why?", streaming=streaming).result()
    assert caught.value.reason == ErrorReason.ERROR_REASON_ANSWER_BLOCKED
    (stored,) = world.turns.conversations[conversation_id].turns
    assert (stored.failure_reason, stored.answer.text, stored.answer.cost_microusd) == ("ANSWER_BLOCKED", "", 7)
    assert "store" not in calls(world)


async def test_an_answer_that_was_cut_short_is_shown_and_not_kept(world: World, turn: Ask) -> None:
    world.models.finish_reason = chat_pb2.FINISH_REASON_MAX_TOKENS
    committed = await turn(world.turns.conversation(), "Why?").result()
    assert (committed.turn.outcome, committed.turn.answer.text) == (turn_pb2.OUTCOME_ANSWER, "Brasília.")
    assert (committed.entry, world.answers.the_line().answer) == (b"", None)


async def test_a_cache_that_is_down_is_a_miss_and_not_told_the_answer(world: World, turn: Ask) -> None:
    world.trace.failures["look_up"].append(Unavailable("gone"))
    committed = await turn(world.turns.conversation(), "Why?").result()
    assert (committed.cache, committed.turn.answer.text) == ("miss", "Brasília.")
    assert calls(world) == ["begin", "look_up", "generate", "commit"]


async def test_a_cache_that_cannot_store_harms_nobody(world: World, turn: Ask) -> None:
    world.trace.failures["store"].append(Unavailable("gone"))
    assert (await turn(world.turns.conversation(), "Why?").result()).turn.seq == 1


@pytest.mark.parametrize("after", ["generate", "piece"])
async def test_a_failure_of_the_model_is_committed_and_told(world: World, turn: Ask, after: str) -> None:
    conversation_id = world.turns.conversation()
    world.trace.failures[after].append(Exhausted("None left.", retry_after=5.0))
    with pytest.raises(Exhausted, match="None left"):
        await turn(conversation_id, "Why?").result()
    (stored,) = world.turns.conversations[conversation_id].turns
    assert (stored.outcome, stored.failure_reason, stored.failure_message, stored.answer.text) == (
        turn_pb2.OUTCOME_FAILURE,
        "QUOTA_EXHAUSTED",
        "None left.",
        "",
    )
    assert "store" not in calls(world)
    assert world.turns.conversations[conversation_id].lease == ""


async def test_a_model_that_ends_without_an_end_is_a_failure(world: World, turn: Ask) -> None:
    async def cut(*_: Any, **__: Any) -> Any:
        return
        yield

    world.models.generate = cut  # type: ignore[method-assign]
    with pytest.raises(Unavailable) as caught:
        await turn(world.turns.conversation(), "Why?").result()
    assert caught.value.reason == ErrorReason.ERROR_REASON_PROVIDER_STREAM_BROKEN


@pytest.mark.parametrize("failure", [AWAY, DeadlineExceeded("late")])
async def test_a_commit_whose_acknowledgement_was_lost_is_repeated(
    world: World, turn: Ask, failure: FocusError
) -> None:
    conversation_id = world.turns.conversation()
    world.trace.lost["commit"].append(failure)
    committed = await turn(conversation_id, "Why?").result()
    assert (committed.turn.seq, committed.turn.answer.text) == (1, "Brasília.")
    assert calls(world).count("commit") == 2
    assert len(world.turns.conversations[conversation_id].turns) == 1


async def test_without_the_lease_nothing_is_said_to_be_done(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    gate = world.trace.hold("commit")
    flight = turn(conversation_id, "Why?")
    await world.trace.until("commit")
    world.turns.conversations[conversation_id].fence += 1
    gate.set()
    with pytest.raises(Conflict):
        await flight.result()
    assert world.turns.conversations[conversation_id].turns == []


async def test_a_begin_in_doubt_is_abandoned(world: World, turn: Ask) -> None:
    """The store took the lease, but its answer was lost: the next turn must not wait for a holder that lives on."""
    conversation_id = world.turns.conversation()
    world.trace.lost["begin"].append(AWAY)
    with pytest.raises(Unavailable):
        await turn(conversation_id, "Why?").result()
    await world.trace.until("abandon")
    await settled()
    assert (await turn(conversation_id, "How?").result()).turn.seq == 1


async def test_an_unknown_conversation_asks_no_model(world: World, turn: Ask) -> None:
    with pytest.raises(NotFound):
        await turn("local-none", "Why?").result()
    assert calls(world) == ["begin"]


async def test_one_who_waits_is_told_the_place_and_then_answered(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    gate = world.trace.hold("generate")
    first = turn(conversation_id, "First?")
    await world.trace.until("generate")
    second = turn(conversation_id, "Second?")
    assert (await second.next_events(5))[0] == Queued("conversation", 1)
    gate.set()
    assert ((await first.result()).turn.seq, (await second.result()).turn.seq) == (1, 2)
    said = [message.parts[0].text for message in world.models.prompts[-1].messages]
    assert said == ["First?", "Brasília.", "Second?"]


@pytest.mark.parametrize("lost", [Unavailable("gone"), NotFound("unknown", ErrorReason.ERROR_REASON_TICKET_UNKNOWN)])
async def test_one_whose_place_is_lost_asks_for_it_again(world: World, turn: Ask, lost: FocusError) -> None:
    conversation_id = world.turns.conversation()
    gate = world.trace.hold("generate")
    first = turn(conversation_id, "First?")
    await world.trace.until("generate")
    world.trace.failures["wait"].append(lost)
    second = turn(conversation_id, "Second?")
    await world.trace.until("wait")
    gate.set()
    assert ((await first.result()).turn.seq, (await second.result()).turn.seq) == (1, 2)


async def test_one_who_waited_to_the_deadline_is_told_why(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    world.trace.hold("generate")
    turn(conversation_id, "First?")
    await world.trace.until("generate")
    world.trace.failures["wait"].append(DeadlineExceeded("late"))
    with pytest.raises(DeadlineExceeded) as caught:
        await turn(conversation_id, "Second?").result()
    assert caught.value.reason == ErrorReason.ERROR_REASON_CONVERSATION_BUSY
    assert caught.value.retry_after is not None


async def test_leaving_the_queue_gives_the_place_up(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    gate = world.trace.hold("generate")
    first = turn(conversation_id, "First?")
    await world.trace.until("generate")
    second = turn(conversation_id, "Second?")
    await world.trace.until("wait")
    await settled()
    second.leave()
    with pytest.raises(Cancelled):
        await second.result()
    await world.trace.until("abandon")
    assert world.turns.conversations[conversation_id].queue == []
    gate.set()
    await first.result()
    assert [one.question for one in world.turns.conversations[conversation_id].turns] == ["First?"]


@pytest.mark.parametrize("at", ["begin", "look_up", "generate", "commit"])
async def test_leaving_at_any_point_after_the_queue_loses_nothing(world: World, turn: Ask, at: str) -> None:
    conversation_id = world.turns.conversation()
    gate = world.trace.hold(at)
    flight = turn(conversation_id, "Why?")
    await world.trace.until(at)
    flight.leave()
    gate.set()
    assert (await flight.result()).turn.answer.text == "Brasília."
    assert len(world.turns.conversations[conversation_id].turns) == 1


@pytest.mark.parametrize(("at", "text"), [("look_up", ""), ("generate", ""), ("piece", "Bra")])
async def test_a_stop_ends_the_model_and_commits_what_was_said(world: World, turn: Ask, at: str, text: str) -> None:
    conversation_id = world.turns.conversation()
    world.trace.hold(at)
    flight = turn(conversation_id, "Why?")
    await world.trace.until(at)
    flight.stop()
    committed = await flight.result()
    assert (committed.turn.outcome, committed.turn.answer.text) == (turn_pb2.OUTCOME_CANCELLED, text)
    assert ("stopped" in world.trace.calls) == (at != "look_up")
    assert "store" not in world.trace.calls
    assert (await turn(conversation_id, "How?", streaming=False).result()).turn.seq == 2


async def test_a_stop_during_the_commit_comes_too_late(world: World, turn: Ask) -> None:
    gate = world.trace.hold("commit")
    flight = turn(world.turns.conversation(), "Why?")
    await world.trace.until("commit")
    flight.stop()
    gate.set()
    assert (await flight.result()).turn.outcome == turn_pb2.OUTCOME_ANSWER


async def test_a_question_is_answered_anew_beside_its_turn(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    first = await turn(conversation_id, "Why?").result()
    await turn(conversation_id, "How?").result()
    world.trace.calls.clear()
    again = await turn(conversation_id, "", replaces_turn_id=first.turn.turn_id).result()
    assert (again.turn.question, again.cache) == ("Why?", "bypass")
    assert calls(world) == ["begin", "generate", "commit"]
    assert len(world.models.prompts[-1].messages) == 1


async def test_an_erased_question_cannot_be_answered_anew(world: World, turn: Ask) -> None:
    conversation_id = world.turns.conversation()
    first = await turn(conversation_id, "Why?").result()
    world.turns.conversations[conversation_id].turns[0].question = ""
    with pytest.raises(InvalidRequest, match="erased"):
        await turn(conversation_id, "", replaces_turn_id=first.turn.turn_id).result()
    await world.trace.until("abandon")
    await settled()
    assert (await turn(conversation_id, "How?").result()).turn.seq == 2


async def test_escalation_and_quota_waits_are_told(world: World, turn: Ask) -> None:
    from focus.llm.v1.llm_pb2 import GenerateResponse

    async def generate(*_: Any, **__: Any) -> Any:
        yield GenerateResponse(queued=GenerateResponse.Queued(position=3, expected_wait_ms=1500))
        yield GenerateResponse(escalated=GenerateResponse.Escalated(confidence=0.25, threshold=0.5, model="senior"))
        yield GenerateResponse(delta=GenerateResponse.Delta(text="Yes."))
        yield GenerateResponse(finished=GenerateResponse.Finished(answer=world.models.answer()))

    world.models.generate = generate  # type: ignore[method-assign]
    flight = turn(world.turns.conversation(), "Why?")
    assert await all_events(flight) == [Queued("quota", 3, 1500), Escalated(0.25, 0.5, "senior"), Delta("Yes.")]
    assert (await flight.result()).turn.answer.text == "Yes."


async def test_what_one_does_another_does_not_wait_for(world: World, turn: Ask) -> None:
    """Different conversations never wait for one another."""
    gate = world.trace.hold("generate")
    waiting = turn(world.turns.conversation(), "First?")
    await world.trace.until("generate")
    assert (await turn(world.turns.conversation(), "Second?", streaming=False).result()).turn.seq == 1
    assert not waiting.done
    gate.set()
    await asyncio.wait_for(waiting.result(), 5)
