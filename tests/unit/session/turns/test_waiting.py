"""How a turn waits: order, wake-ups, leaving, deadlines. Store and queue are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import DeadlineExceeded, Exhausted, FocusError, InvalidRequest, NotFound, Unavailable
from services.session import line as lines
from services.session.model import Begun, Turn, Wanted
from services.session.tickets import Ticket
from services.session.turns import Queued
from tests.contract.session.stores import new_id
from tests.unit.session.turns.house import House

DIGEST = b"d" * 32


async def reach(house: House, ticket: Ticket, timeout: float = 20) -> Begun | Turn:
    last: int | Begun | Turn | None = None
    async with aclosing(house.turns.wait(ticket, timeout)) as steps:
        async for step in steps:
            last = step
    assert isinstance(last, Begun | Turn)
    return last


def reason(err: pytest.ExceptionInfo[FocusError]) -> str:
    return err.value.reason_name


async def test_waiter_is_told_its_positions_and_then_has_its_turn(house: House) -> None:
    holder = await house.begun()
    first, second = await house.queued(), await house.queued()
    async with aclosing(house.turns.wait(second, 20)) as steps:
        assert await anext(steps) == 2
        async with aclosing(house.turns.wait(first, 20)) as others:
            assert await anext(others) == 1
            await house.commit(holder)
            begun = await anext(others)
            assert isinstance(begun, Begun)
        assert await anext(steps) == 1
        await house.commit(begun)
        after = await anext(steps)
    assert isinstance(after, Begun)
    assert (after.seq, after.turn_id) == (3, second.wanted.turn_id)


async def test_wakeup_before_waiting_is_not_lost(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease freed between BeginTurn and AwaitTurn is found at once: who has queued looks once more."""
    holder = await house.begun()
    ticket = await house.queued()
    await house.commit(holder)
    await house.turns.close()  # the wake-up has gone by
    # With nothing but wake-ups to go by, only that one look can find it.
    monkeypatch.setattr(lines, "_LOOK_SECONDS", 3600.0)
    assert isinstance(await reach(house, ticket), Begun)


async def test_control_without_that_look_the_wakeup_is_lost(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = await house.begun()
    ticket = await house.queued()
    await house.commit(holder)
    await house.turns.close()
    monkeypatch.setattr(lines, "_LOOK_SECONDS", 3600.0)
    place = lines.Place.__init__

    def without_look(self: lines.Place, turn_id: str, arrived: int) -> None:
        place(self, turn_id, arrived)
        self.look_at = float("inf")

    monkeypatch.setattr(lines.Place, "__init__", without_look)
    with pytest.raises(DeadlineExceeded):
        await reach(house, ticket, timeout=1)


async def test_wakeup_that_gets_lost_costs_a_look(house: House) -> None:
    """Valkey may drop a message: the first waiter looks by itself."""
    holder = await house.begun()
    ticket = await house.queued()
    house.queue.woken = lambda conversation, turn: None
    waiting = asyncio.create_task(reach(house.another_process(), ticket))
    await asyncio.sleep(0.05)
    await house.commit(holder)
    assert isinstance(await waiting, Begun)


async def test_newcomer_queues_behind_who_waits_even_when_the_lease_is_free(house: House) -> None:
    holder = await house.begun()
    ticket = await house.queued()
    await house.commit(holder)
    newcomer = await house.queued()
    begun = await reach(house, ticket)
    assert isinstance(begun, Begun)
    assert begun.seq == 2
    await house.commit(begun)
    after = await reach(house, newcomer)
    assert isinstance(after, Begun)
    assert after.seq == 3


async def test_conversation_is_uncontended_again_after_its_queue(house: House) -> None:
    """Who comes after the last waiter does not queue."""
    holder = await house.begun()
    ticket = await house.queued()
    await house.commit(holder)
    begun = await reach(house, ticket)
    assert isinstance(begun, Begun)
    await house.turns.close()
    await house.commit(begun)
    assert isinstance(await house.turns.begin(house.wanted()), Begun)


async def test_who_leaves_frees_the_place_at_once(house: House) -> None:
    holder = await house.begun()
    first, second = await house.queued(), await house.queued()
    async with aclosing(house.turns.wait(second, 20)) as steps:
        assert await anext(steps) == 2
        async with aclosing(house.turns.wait(first, 20)) as leaver:
            await anext(leaver)
        assert await anext(steps) == 1
        await house.commit(holder)
        assert isinstance(await anext(steps), Begun)


async def test_leaver_that_was_woken_wakes_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_LOOK_SECONDS", 3600.0)
    holder = await house.begun()
    first, second = await house.queued(), await house.queued()
    waiting = asyncio.create_task(reach(house, second))
    leaver = asyncio.create_task(reach(house, first))
    await asyncio.sleep(0.05)
    begin = house.store.begin

    async def too_late(wanted: Wanted, *, reached: bool) -> object:
        if wanted.turn_id == first.wanted.turn_id:
            await asyncio.sleep(3600)
        return await begin(wanted, reached=reached)

    monkeypatch.setattr(house.store, "begin", too_late)
    await house.commit(holder)
    await asyncio.sleep(0.05)
    leaver.cancel()
    assert isinstance(await waiting, Begun)


async def test_cancelled_begin_leaves_no_lease(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the store heard of it is unknown when the caller goes away."""
    begin = house.store.begin

    async def slow(wanted: Wanted, *, reached: bool) -> object:
        attempt = await begin(wanted, reached=reached)
        await asyncio.sleep(3600)
        return attempt

    await house.turns.renew(house.holder)
    monkeypatch.setattr(house.store, "begin", slow)
    task = asyncio.create_task(house.turns.begin(house.wanted(key="key", digest=DIGEST)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await house.turns.close()
    monkeypatch.undo()
    assert isinstance(await house.turns.begin(house.wanted(key="key", digest=b"x" * 32)), Begun)


async def test_deadline_is_told_and_gives_place_and_key_up(house: House) -> None:
    await house.begun()
    ticket = await house.queued(key="key", digest=DIGEST)
    with pytest.raises(DeadlineExceeded) as err:
        await reach(house, ticket, timeout=0.3)
    assert reason(err) == "CONVERSATION_BUSY"
    assert err.value.retry_after is not None
    await house.turns.close()
    again = await house.turns.begin(house.wanted(key="key", digest=b"x" * 32))
    assert isinstance(again, Queued)
    assert again.position == 1


async def test_full_queue_is_told_and_keeps_no_key(house: House) -> None:
    await house.begun()
    tickets = [await house.queued() for _ in range(3)]
    with pytest.raises(Exhausted) as err:
        await house.turns.begin(house.wanted(key="key", digest=DIGEST))
    assert reason(err) == "QUEUE_FULL"
    await house.turns.close()
    await house.turns.abandon(house.me, house.conversation, tickets[0].wanted.turn_id)
    await house.queued(key="key", digest=b"x" * 32)


async def test_dead_holder_is_replaced(house: House) -> None:
    await house.begun()
    house.holder = new_id()
    waiting = asyncio.create_task(reach(house, await house.queued()))
    begun = await asyncio.wait_for(waiting, 10)
    assert isinstance(begun, Begun)
    assert begun.fence == 2


async def test_waiter_keeps_its_key_in_use(house: House) -> None:
    """For longer than a mark lives; the repeat hears that it is in progress."""
    holder = await house.begun()
    ticket = await house.queued(key="key", digest=DIGEST)
    waiting = asyncio.create_task(reach(house, ticket))
    for _ in range(7):
        await asyncio.sleep(0.5)
        await house.turns.renew(house.holder)
    with pytest.raises(FocusError) as err:
        await house.turns.begin(house.wanted(key="key", digest=DIGEST))
    assert reason(err) == "IDEMPOTENCY_IN_PROGRESS"
    await house.commit(holder)
    assert isinstance(await waiting, Begun)


async def test_waiter_comes_back_on_another_process_to_its_old_place(house: House) -> None:
    holder = await house.begun()
    first, second = await house.queued(), await house.queued()
    async with aclosing(house.turns.wait(first, 20)) as steps:
        assert await anext(steps) == 1
        # Its stream broke with the process: nothing was left in order.
        other = house.another_process()
        async with aclosing(other.turns.wait(first, 20)) as again:
            assert await anext(again) == 1
            await house.commit(holder)
            assert isinstance(await anext(again), Begun)
    assert second.arrived > first.arrived


async def test_wiped_queue_comes_back_in_order(house: House) -> None:
    holder = await house.begun()
    tickets = [await house.queued() for _ in range(3)]
    reached: list[str] = []

    async def run(ticket: Ticket) -> None:
        begun = await reach(house, ticket)
        assert isinstance(begun, Begun)
        reached.append(begun.turn_id)
        await house.commit(begun)

    runs = [asyncio.create_task(run(ticket)) for ticket in tickets]
    await asyncio.sleep(0.05)
    house.queue.wipe()
    await house.commit(holder)
    await asyncio.gather(*runs)
    assert reached == [ticket.wanted.turn_id for ticket in tickets]


async def test_old_ticket_without_a_place_is_unknown(house: House) -> None:
    await house.begun()
    ticket = await house.queued()
    await house.queue.leave(house.conversation, ticket.wanted.turn_id)
    old = Ticket(ticket.wanted, ticket.arrived - 60_000_000)
    with pytest.raises(NotFound) as err:
        await reach(house, old)
    assert reason(err) == "TICKET_UNKNOWN"


async def test_queue_that_cannot_be_reached_is_said_so(house: House) -> None:
    holder = await house.begun()
    house.queue.gone = True
    with pytest.raises(Unavailable):
        await house.turns.begin(house.wanted())
    await house.commit(holder)


async def test_commit_repeated_gives_what_was_stored(house: House) -> None:
    begun = await house.begun()
    first = await house.commit(begun)
    assert await house.commit(begun) == first


async def test_lost_lease_is_told(house: House) -> None:
    begun = await house.begun()
    await house.turns.abandon(house.me, house.conversation, begun.turn_id)
    with pytest.raises(FocusError) as err:
        await house.commit(begun)
    assert err.value.reason == ErrorReason.ERROR_REASON_LEASE_LOST


@pytest.mark.parametrize(
    "change",
    [
        {"holder_id": "x"},
        {"turn_id": "X" * 36},
        {"parent_id": "x"},
        {"replaces_id": "x"},
        {"parent_id": new_id(), "replaces_id": new_id()},
        {"key": "k" * 256, "digest": DIGEST},
        {"key": "k"},
        {"budget": -1},
    ],
)
async def test_malformed_begin_is_refused(house: House, change: dict[str, str | bytes | int]) -> None:
    wanted = house.wanted()
    for name, value in change.items():
        setattr(wanted, name, value)
    with pytest.raises(InvalidRequest):
        await house.turns.begin(wanted)


async def test_closed_generator_is_closed(house: House) -> None:
    """A waiter's generator that nobody reads any more holds nothing."""
    await house.begun()
    steps: AsyncGenerator[int | Begun | Turn, None] = house.turns.wait(await house.queued(), 20)
    assert await anext(steps) == 1
    await steps.aclose()
    again = await house.turns.begin(house.wanted())
    assert isinstance(again, Queued)
    assert again.position == 1
