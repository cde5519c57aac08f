"""What a cancel finds, wherever its turn is at that moment. Store and queue are in memory."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from services.common.errors import FocusError, InvalidRequest, NotFound
from tests.contract.session.stores import new_id, somebody
from tests.unit.session.turns.house import House


async def test_a_running_turn_is_stopped_by_its_holder_and_then_found(house: House) -> None:
    begun = await house.begun()
    assert await house.turns.cancel(house.me, house.conversation, begun.turn_id) is None
    assert await house.turns.renew(house.holder) == [begun.turn_id]
    turn = await house.commit(begun)
    assert await house.turns.renew(house.holder, [begun.turn_id]) == []
    assert await house.turns.cancel(house.me, house.conversation, begun.turn_id) == turn


async def test_a_waiting_turn_is_told_to_all_holders_also_through_another_process(house: House) -> None:
    await house.begun()
    ticket = await house.queued()
    turn_id = ticket.wanted.turn_id
    async with aclosing(house.turns.wait(ticket, 20)) as steps:
        assert await anext(steps) == 1
        other = house.another_process()
        assert await other.turns.cancel(house.me, house.conversation, turn_id) is None
        assert await house.turns.renew(house.holder) == [turn_id]
    # Its holder has left the queue.
    with pytest.raises(NotFound) as gone:
        await other.turns.cancel(house.me, house.conversation, turn_id)
    assert gone.value.reason_name == "TURN_NOT_FOUND"
    await other.turns.close()


async def test_a_turn_that_leaves_the_queue_for_its_lease_in_that_moment_is_found(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: with the queue looked at last, it would be in none of the three places."""
    holder = await house.begun()
    ticket = await house.queued()
    waits = house.turns._line.waits

    async def meanwhile(conversation_id: str, turn_id: str) -> bool:
        await house.commit(holder)
        async with aclosing(house.turns.wait(ticket, 20)) as steps:
            async for _ in steps:
                pass
        return await waits(conversation_id, turn_id)

    monkeypatch.setattr(house.turns._line, "waits", meanwhile)
    assert await house.turns.cancel(house.me, house.conversation, ticket.wanted.turn_id) is None
    assert await house.turns.renew(house.holder) == [ticket.wanted.turn_id]


async def test_a_turn_of_a_dead_holder_is_given_up_and_can_commit_no_more(house: House) -> None:
    begun = await house.begun()
    house.database.clock = lambda: datetime.now(UTC) + timedelta(seconds=3)
    with pytest.raises(NotFound):
        await house.turns.cancel(house.me, house.conversation, begun.turn_id)
    await house.turns.renew(house.holder)
    with pytest.raises(FocusError) as late:
        await house.commit(begun)
    assert late.value.reason_name == "LEASE_LOST"


async def test_nobody_cancels_somebody_elses_turn(house: House) -> None:
    begun, ticket = await house.begun(), await house.queued()
    for turn_id in (begun.turn_id, ticket.wanted.turn_id, new_id()):
        with pytest.raises(NotFound) as unknown:
            await house.turns.cancel(somebody(), house.conversation, turn_id)
        assert unknown.value.reason_name == "TURN_NOT_FOUND"
    assert await house.turns.renew(house.holder) == []
    with pytest.raises(InvalidRequest):
        await house.turns.renew(house.holder, ["nonsense"])
