"""The same request more than once, at several session processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from focus.chat.v1 import chat_pb2
from focus.session.v1 import turn_pb2
from services.common.errors import Conflict, InvalidRequest
from services.common.rpc import client
from tests.integration.session.turns.fleet import DIGEST, Caller, Fleet, new_id, reasons, together


def results(responses: list[Any]) -> list[str]:
    """What each came to: a kind of response, or the reason of an error."""
    return [
        reason or response.WhichOneof("result") for reason, response in zip(reasons(responses), responses, strict=True)
    ]


async def test_twenty_repeats_at_once_make_one_turn(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    callers = [three.callers[n % 3] for n in range(20)]
    responses = await together(*(caller.begin(conversation, key="key") for caller in callers))
    assert sorted(results(responses)) == ["IDEMPOTENCY_IN_PROGRESS"] * 19 + ["begun"]
    winner = next(n for n, kind in enumerate(results(responses)) if kind == "begun")
    assert all(response.retry_after for response in responses if isinstance(response, Conflict))
    stored = await callers[winner].commit(conversation, responses[winner].begun)
    responses = await together(*(caller.begin(conversation, key="key") for caller in callers))
    assert results(responses) == ["replayed"] * 20
    assert {response.replayed.turn_id for response in responses} == {stored.turn_id}
    assert responses[0].replayed == stored
    assert (await three.caller.get(conversation)).conversation.turn_count == 1


async def test_repeat_while_the_first_is_queued_is_in_progress(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    holder = await three.caller.begun(conversation)
    ticket = (await three.caller.begin(conversation, key="key")).queued.ticket
    waiting = asyncio.create_task(three.caller.wait(conversation, ticket))
    for other in three.callers:
        with pytest.raises(Conflict) as err:
            await other.begin(conversation, key="key")
        assert err.value.reason_name == "IDEMPOTENCY_IN_PROGRESS"
    await three.caller.commit(conversation, holder)
    begun = await waiting
    assert isinstance(begun, turn_pb2.BegunTurn)
    assert (await three.caller.commit(conversation, begun)).seq == 2


async def test_waiter_that_leaves_frees_its_key(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    await three.caller.begun(conversation)
    ticket = (await three.caller.begin(conversation, key="key")).queued.ticket
    waiting = asyncio.create_task(three.caller.wait(conversation, ticket))
    await asyncio.sleep(0.2)
    waiting.cancel()
    async with asyncio.timeout(10):
        while True:
            (response,) = await together(three.callers[1].begin(conversation, key="key", digest=b"x" * 32))
            if results([response]) == ["queued"]:
                break
            await asyncio.sleep(0.05)


async def test_changed_body_is_refused(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    await three.caller.turn(conversation, key="key")
    with pytest.raises(InvalidRequest) as err:
        await three.callers[1].begin(conversation, key="key", digest=b"x" * 32)
    assert err.value.reason_name == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.parametrize(("reason", "again"), [("QUOTA_EXHAUSTED", "begun"), ("ANSWER_BLOCKED", "replayed")])
async def test_failure_is_asked_again_if_that_can_help(three: Fleet, reason: str, again: str) -> None:
    conversation = await three.caller.conversation()
    begun = await three.caller.begun(conversation, key="key")
    failed = await three.caller.commit(
        conversation,
        begun,
        outcome=turn_pb2.OUTCOME_FAILURE,
        answer=chat_pb2.Answer(),
        failure_reason=reason,
        failure_message="Not now.",
    )
    response = await three.callers[1].begin(conversation, key="key")
    assert response.WhichOneof("result") == again
    if again == "replayed":
        assert response.replayed == failed
        assert (failed.failure_reason, failed.failure_message) == (reason, "Not now.")


async def test_commit_is_repeated_at_another_process(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    begun = await three.caller.begun(conversation)
    first, *others = await asyncio.gather(
        *(caller.commit(conversation, begun) for caller in three.callers), *(three.caller.commit(conversation, begun),)
    )
    assert all(other == first for other in others)
    assert (await three.caller.get(conversation)).conversation.turn_count == 1


# Stateless asks.


async def begin_ask(caller: Caller, ask: str = "", digest: bytes = DIGEST) -> turn_pb2.BeginAskResponse:
    request = turn_pb2.BeginAskRequest(
        principal=caller.me,
        holder_id=caller.holder,
        ask_id=ask or new_id(),
        route="POST /v1/ask",
        idempotency_key="key",
        request_digest=digest,
    )
    return await client.unary(caller.turns.BeginAsk, request, timeout=caller.timeout)


async def commit_ask(caller: Caller, ask: str, **other: Any) -> turn_pb2.AskOutcome:
    outcome = turn_pb2.AskOutcome(
        **{"outcome": turn_pb2.OUTCOME_ANSWER, "answer": chat_pb2.Answer(text="4"), "extra": b"miss", **other}
    )
    request = turn_pb2.CommitAskRequest(principal=caller.me, ask_id=ask, outcome=outcome)
    return (await client.unary(caller.turns.CommitAsk, request, timeout=caller.timeout)).outcome


async def test_twenty_repeats_of_an_ask_are_answered_once(three: Fleet) -> None:
    asks = [(three.callers[n % 3], new_id()) for n in range(20)]
    responses = await together(*(begin_ask(caller, ask) for caller, ask in asks))
    assert sorted(results(responses)) == ["IDEMPOTENCY_IN_PROGRESS"] * 19 + ["begun"]
    winner = next(n for n, kind in enumerate(results(responses)) if kind == "begun")
    stored = await commit_ask(*asks[winner])
    responses = await together(*(begin_ask(caller) for caller, _ in asks))
    assert [response.replayed for response in responses] == [stored] * 20
    assert (stored.answer.text, stored.extra) == ("4", b"miss")


async def test_ask_that_failed_for_the_moment_is_asked_again(three: Fleet) -> None:
    ask = new_id()
    await begin_ask(three.caller, ask)
    failed = await commit_ask(
        three.caller, ask, outcome=turn_pb2.OUTCOME_FAILURE, failure_reason="PROVIDER_UNAVAILABLE"
    )
    assert failed.failure_reason == "PROVIDER_UNAVAILABLE"
    assert results([await begin_ask(three.callers[1], digest=b"x" * 32)]) == ["begun"]


async def test_other_failure_of_an_ask_is_repeated(three: Fleet) -> None:
    ask = new_id()
    await begin_ask(three.caller, ask)
    failed = await commit_ask(three.caller, ask, outcome=turn_pb2.OUTCOME_FAILURE, failure_reason="ANSWER_BLOCKED")
    assert (await begin_ask(three.callers[1])).replayed == failed


async def test_abandoned_ask_frees_its_key(three: Fleet) -> None:
    ask = new_id()
    await begin_ask(three.caller, ask)
    request = turn_pb2.AbandonAskRequest(principal=three.caller.me, ask_id=ask)
    await client.unary(three.caller.turns.AbandonAsk, request, timeout=10)
    assert results([await begin_ask(three.callers[1])]) == ["begun"]
    with pytest.raises(Conflict) as err:
        await commit_ask(three.caller, ask)
    assert err.value.reason_name == "LEASE_LOST"


@pytest.mark.parametrize(
    "change",
    [
        {"route": ""},
        {"route": "turns"},
        {"route": "r" * 256},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 256},
        {"request_digest": b"short"},
        {"ask_id": "x"},
        {"holder_id": ""},
        {"principal": chat_pb2.Principal(tenant_id="x")},
    ],
)
async def test_malformed_ask_is_refused(caller: Caller, change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "principal": caller.me,
        "holder_id": caller.holder,
        "ask_id": new_id(),
        "route": "POST /v1/ask",
        "idempotency_key": "key",
        "request_digest": DIGEST,
        **change,
    }
    with pytest.raises(InvalidRequest):
        await client.unary(caller.turns.BeginAsk, turn_pb2.BeginAskRequest(**fields), timeout=10)
