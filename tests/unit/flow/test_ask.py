"""A stateless question's flow over the services in memory."""

from __future__ import annotations

import pytest

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import Cancelled, Conflict, Exhausted, FocusError, InvalidRequest, Unavailable
from services.flow.ask import AskRequest, run_ask
from services.flow.deadline import Deadline
from services.flow.flight import Flight
from services.flow.holder import Holder
from services.flow.question import Answered, Question, Repeatable
from tests.unit.flow.conftest import fly, settled
from tests.unit.flow.fakes import PRINCIPAL, World


def ask(
    world: World, holder: Holder, *, key: str = "", digest: bytes = b"d", number: int = 1, seconds: float = 30.0
) -> Flight[Answered]:
    repeatable = Repeatable(key, digest) if key else None
    request = AskRequest(PRINCIPAL, f"ask-{number}", Question("Why?"), "POST /v1/ask", repeatable)
    deadline = Deadline.after(seconds)
    return fly(lambda course: run_ask(world.clients, holder, request, course, deadline), durable=bool(key))


async def test_a_hit_is_one_call_and_a_miss_three(world: World, holder: Holder) -> None:
    assert (await ask(world, holder).result()).cache == "miss"
    assert [call for call in world.trace.calls if call != "piece"] == ["look_up", "generate", "store"]
    world.trace.calls.clear()
    hit = await ask(world, holder).result()
    assert (hit.cache, hit.answer.text, hit.answer.cost_microusd) == ("hit", "Brasília.", 0)
    assert world.trace.calls == ["look_up"]


async def test_leaving_stops_the_model(world: World, holder: Holder) -> None:
    world.trace.hold("piece")
    flight = ask(world, holder)
    await world.trace.until("piece")
    flight.leave()
    with pytest.raises(Cancelled):
        await flight.result()
    # Asked whether anybody follows, then stopped and given back.
    await world.trace.until("release fills")
    assert world.trace.calls == ["look_up", "generate", "piece", "renew fills", "stopped", "release fills"]


async def test_with_a_key_leaving_changes_nothing(world: World, holder: Holder) -> None:
    gate = world.trace.hold("piece")
    flight = ask(world, holder, key="key")
    await world.trace.until("piece")
    flight.leave()
    gate.set()
    assert (await flight.result()).answer.text == "Brasília."
    again = await ask(world, holder, key="key", number=2).result()
    assert (again.replayed, again.answer.text, again.cache) == (True, "Brasília.", "miss")


async def test_a_key_with_another_question_is_refused(world: World, holder: Holder) -> None:
    await ask(world, holder, key="key").result()
    with pytest.raises(InvalidRequest) as caught:
        await ask(world, holder, key="key", digest=b"other", number=2).result()
    assert caught.value.reason == ErrorReason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED


async def test_a_failure_is_saved_and_the_model_not_asked_again(world: World, holder: Holder) -> None:
    world.trace.failures["generate"].append(InvalidRequest("No.", ErrorReason.ERROR_REASON_ANSWER_BLOCKED))
    for number in (1, 2):
        with pytest.raises(FocusError, match=r"No\.") as caught:
            await ask(world, holder, key="key", number=number).result()
        assert caught.value.reason == ErrorReason.ERROR_REASON_ANSWER_BLOCKED
    assert world.trace.calls.count("generate") == 1


async def test_a_stop_frees_the_key(world: World, holder: Holder) -> None:
    world.trace.hold("generate")
    flight = ask(world, holder, key="key")
    await world.trace.until("generate")
    flight.stop()
    with pytest.raises(Cancelled):
        await flight.result()
    await world.trace.until("abandon_ask")
    await settled()
    world.trace.gates.clear()
    assert (await ask(world, holder, key="key", number=2).result()).replayed is False


async def test_a_lost_acknowledgement_is_repeated(world: World, holder: Holder) -> None:
    world.trace.lost["commit_ask"].append(Unavailable("gone"))
    assert (await ask(world, holder, key="key").result()).answer.text == "Brasília."
    assert world.trace.calls.count("commit_ask") == 2


async def test_an_answer_that_could_not_be_saved_is_not_said_to_be_there(world: World, holder: Holder) -> None:
    world.trace.failures["commit_ask"].append(Conflict("Another has the key."))
    with pytest.raises(Conflict):
        await ask(world, holder, key="key").result()


async def test_the_models_failure_is_told_also_when_it_could_not_be_saved(world: World, holder: Holder) -> None:
    world.trace.failures["generate"].append(Exhausted("None left."))
    world.trace.failures["commit_ask"].append(Conflict("Another has the key."))
    with pytest.raises(Exhausted):
        await ask(world, holder, key="key").result()


async def test_without_time_nothing_is_asked(world: World, holder: Holder) -> None:
    with pytest.raises(FocusError) as caught:
        await ask(world, holder, seconds=-1.0).result()
    assert caught.value.reason == ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED
    assert world.trace.calls == []
