"""A cancel that reaches another session process than the turn's, over gRPC, PostgreSQL and Valkey."""

from __future__ import annotations

import asyncio

import pytest

from focus.chat.v1 import chat_pb2
from focus.session.v1 import turn_pb2
from services.common.errors import NotFound
from services.common.rpc import client
from tests.integration.session.turns.fleet import Caller, Fleet, new_id, principal


async def cancel(caller: Caller, conversation: str, turn: str) -> turn_pb2.Turn | None:
    request = turn_pb2.CancelTurnRequest(principal=caller.me, conversation_id=conversation, turn_id=turn)
    response = await client.unary(caller.turns.CancelTurn, request, timeout=20)
    return response.turn if response.HasField("turn") else None


async def heard(caller: Caller, stopped: list[str] | None = None) -> list[str]:
    request = turn_pb2.RenewHolderRequest(holder_id=caller.holder, stopped_turn_ids=stopped or [])
    return list((await client.unary(caller.turns.RenewHolder, request, timeout=20)).cancelled_turn_ids)


async def test_the_holder_hears_of_it_and_the_cancelled_turn_is_found(three: Fleet) -> None:
    holder, other, third = three.callers
    conversation = await holder.conversation()
    begun = await holder.begun(conversation)
    assert await cancel(other, conversation, begun.turn_id) is None
    assert (await heard(holder), await heard(other)) == ([begun.turn_id], [])
    answer = chat_pb2.Answer(text="As far as it g")
    await holder.commit(conversation, begun, outcome=turn_pb2.OUTCOME_CANCELLED, answer=answer)
    assert await heard(holder, [begun.turn_id]) == []
    stored = await cancel(third, conversation, begun.turn_id)
    assert stored is not None
    assert (stored.outcome, stored.answer.text) == (turn_pb2.OUTCOME_CANCELLED, "As far as it g")


async def test_a_turn_in_the_queue_is_told_to_whoever_may_run_it(three: Fleet) -> None:
    holder, other, third = three.callers
    conversation, turn = await holder.conversation(), new_id()
    begun = await holder.begun(conversation)
    queued = (await other.begin(conversation, turn)).queued
    seen = asyncio.Event()
    waiting = asyncio.create_task(other.wait(conversation, queued.ticket, lambda position: seen.set()))
    await asyncio.wait_for(seen.wait(), 20)
    assert await cancel(third, conversation, turn) is None
    assert turn in await heard(other)
    waiting.cancel()
    await asyncio.wait([waiting])

    async def given_up() -> None:
        while True:
            try:
                await cancel(third, conversation, turn)
            except NotFound:
                return
            await asyncio.sleep(0.02)

    await asyncio.wait_for(given_up(), 20)
    await holder.commit(conversation, begun)
    assert (await third.turn(conversation)).seq == 2


async def test_strangers_and_the_unknown_are_answered_alike(three: Fleet) -> None:
    holder, other, _ = three.callers
    conversation = await holder.conversation()
    begun = await holder.begun(conversation)
    stranger = Caller(other.turns, other.conversations, principal())
    said = []
    for caller, turn in ((stranger, begun.turn_id), (holder, new_id())):
        with pytest.raises(NotFound) as unknown:
            await cancel(caller, conversation, turn)
        said.append((unknown.value.reason_name, unknown.value.message))
    assert said[0] == said[1]
    assert await heard(holder) == []
