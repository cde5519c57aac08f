"""Turns that have to wait, over three session processes: order, wake-ups, deaths, Valkey gone."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from devstack.valkey import Valkey
from focus.session.v1 import turn_pb2
from services.common.errors import DeadlineExceeded, FocusError, NotFound
from tests.integration.session.turns.fleet import Caller, Fleet, calling, fleet, new_id, reasons, settings, together

HOLD_SECONDS = 0.005


async def overtakes(conversation: str, order: list[str], callers: list[Caller]) -> int:
    """How often a turn came before one that had queued before it."""
    turns = (await callers[0].get(conversation)).turns
    place = {turn: number for number, turn in enumerate(order)}
    stored = [place[turn.turn_id] for turn in turns if turn.turn_id in place]
    assert len(stored) == len(order)
    assert [turn.seq for turn in turns] == list(range(1, len(turns) + 1))
    return sum(later < earlier for i, earlier in enumerate(stored) for later in stored[i + 1 :])


async def queue_up(fleet: Fleet, conversation: str, number: int) -> list[tuple[Caller, str, str]]:
    """That many tickets, taken one after the other at all processes in turn: caller, turn, ticket."""
    tickets = []
    for n in range(number):
        caller, turn = fleet.callers[n % len(fleet.callers)], new_id()
        response = await caller.begin(conversation, turn)
        assert response.WhichOneof("result") == "queued"
        assert response.queued.position == n + 1
        tickets.append((caller, turn, response.queued.ticket))
    return tickets


async def serve(conversation: str, tickets: list[tuple[Caller, str, str]]) -> None:
    """Everybody waits at once, holds the lease for a moment, and commits."""

    async def one(caller: Caller, ticket: str) -> None:
        begun = await caller.wait(conversation, ticket)
        assert isinstance(begun, turn_pb2.BegunTurn)
        await asyncio.sleep(HOLD_SECONDS)
        await caller.commit(conversation, begun)

    await asyncio.gather(*(one(caller, ticket) for caller, _, ticket in tickets))


async def test_forty_waiters_are_served_in_the_order_of_arrival(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    holder = await three.caller.begun(conversation)
    tickets = await queue_up(three, conversation, 40)
    waiting = asyncio.create_task(serve(conversation, tickets))
    await asyncio.sleep(0.2)
    started = time.perf_counter()
    await three.caller.commit(conversation, holder)
    await waiting
    makespan, ideal = time.perf_counter() - started, 40 * HOLD_SECONDS
    print(f"makespan of 40 waiters: {makespan:.3f} s, ideal {ideal:.3f} s, ratio {makespan / ideal:.2f}")
    assert await overtakes(conversation, [turn for _, turn, _ in tickets], three.callers) <= 1


async def test_newcomers_do_not_barge_past_waiters(three: Fleet) -> None:
    """However many come while the queue is served, at every process."""
    conversation = await three.caller.conversation()
    holder = await three.caller.begun(conversation)
    tickets = await queue_up(three, conversation, 10)
    waiting = asyncio.create_task(serve(conversation, tickets))
    newcomers: list[asyncio.Task[turn_pb2.Turn]] = []
    await three.caller.commit(conversation, holder)
    while not waiting.done():
        newcomers += [asyncio.create_task(caller.turn(conversation)) for caller in three.callers]
        await asyncio.sleep(0.05)
        if len(newcomers) > 30:
            await waiting
    later = [turn.seq for turn in await asyncio.gather(*newcomers)]
    assert await overtakes(conversation, [turn for _, turn, _ in tickets], three.callers) == 0
    assert min(later) > 11


async def test_who_leaves_frees_the_place_at_once(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    await three.caller.begun(conversation)
    (a, _, first), (b, _, second), (_, third_turn, _) = await queue_up(three, conversation, 3)
    positions: asyncio.Queue[int] = asyncio.Queue()
    waiting = asyncio.create_task(b.wait(conversation, second, positions.put_nowait))
    assert await positions.get() == 2
    leaver = asyncio.create_task(a.wait(conversation, first))
    await asyncio.sleep(0.2)
    leaver.cancel()
    assert await positions.get() == 1
    # One that never began to wait is given up by name.
    await three.caller.abandon(conversation, third_turn)
    response = await three.caller.begin(conversation)
    assert response.queued.position == 2
    waiting.cancel()


async def test_deadline_is_a_busy_conversation_and_gives_the_place_up(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    await three.caller.begun(conversation)
    ((caller, _, ticket),) = await queue_up(three, conversation, 1)
    with pytest.raises(DeadlineExceeded) as err:
        await caller.wait(conversation, ticket, timeout=1)
    assert err.value.reason_name == "CONVERSATION_BUSY"
    assert err.value.retry_after is not None
    assert (await caller.begin(conversation)).queued.position == 1


async def test_ticket_of_nobody_is_unknown(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    for ticket in ("", "x", "W10"):
        with pytest.raises(NotFound) as err:
            await three.caller.wait(conversation, ticket)
        assert err.value.reason_name == "TICKET_UNKNOWN"


async def test_ticket_gives_no_right_to_somebody_elses_conversation(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    await three.caller.begun(conversation)
    ((_, _, ticket),) = await queue_up(three, conversation, 1)
    thief = three.callers[1]
    thief.me = type(thief.me)(tenant_id=new_id(), person_id=new_id())
    with pytest.raises(NotFound) as err:
        await thief.wait(conversation, ticket)
    assert err.value.reason_name == "CONVERSATION_NOT_FOUND"


async def test_dead_holder_is_replaced_within_three_seconds(three: Fleet) -> None:
    """Twenty of them at once; its successor waits at another process."""
    dead = new_id()
    async with calling(three.targets[0], three.caller.me, dead) as holder:
        conversations = [await holder.conversation() for _ in range(20)]
        for conversation in conversations:
            await holder.begun(conversation)
        tickets = [(await three.callers[1].begin(one)).queued.ticket for one in conversations]
        waiting = [
            asyncio.create_task(three.callers[1].wait(one, ticket))
            for one, ticket in zip(conversations, tickets, strict=True)
        ]
        await asyncio.sleep(1)
        await holder.renew()
        died = time.perf_counter()
    done: list[float] = []
    for task in waiting:
        task.add_done_callback(lambda _: done.append(time.perf_counter() - died))
    for begun in await asyncio.gather(*waiting):
        assert begun.fence == 2
    print(f"dead holders replaced after {min(done):.2f} to {max(done):.2f} s")
    assert min(done) > 1.9
    assert max(done) < 3.0


async def test_conversations_do_not_wait_for_one_another(three: Fleet) -> None:
    held = [await three.caller.conversation() for _ in range(3)]
    for conversation in held:
        await three.caller.begun(conversation)
    tickets = [(await three.caller.begin(one)).queued.ticket for one in held]
    waiting = [asyncio.create_task(three.caller.wait(one, ticket)) for one, ticket in zip(held, tickets, strict=True)]
    await asyncio.sleep(0.1)
    free = await three.caller.conversation()
    assert (await three.caller.turn(free)).seq == 1
    assert (await three.caller.get(held[0])).conversation.turn_count == 0
    for task in waiting:
        task.cancel()


async def test_wiped_valkey_costs_no_place(three: Fleet, valkey: Valkey) -> None:
    conversation = await three.caller.conversation()
    holder = await three.caller.begun(conversation)
    tickets = await queue_up(three, conversation, 9)
    waiting = asyncio.create_task(serve(conversation, tickets))
    await asyncio.sleep(0.3)
    valkey.wipe()
    await three.caller.commit(conversation, holder)
    await waiting
    assert await overtakes(conversation, [turn for _, turn, _ in tickets], three.callers) == 0


async def test_valkey_that_dies_is_replaced_by_postgresql(three: Fleet, valkey: Valkey) -> None:
    """Those who wait keep their order, newcomers still come after them, and nobody is refused."""
    conversation = await three.caller.conversation()
    holder = await three.caller.begun(conversation)
    tickets = await queue_up(three, conversation, 6)
    waiting = asyncio.create_task(serve(conversation, tickets))
    await asyncio.sleep(0.3)
    valkey.process.kill()
    late = [asyncio.create_task(caller.turn(conversation)) for caller in three.callers]
    await asyncio.sleep(1.5)  # "FIFO within a second"
    await three.caller.commit(conversation, holder)
    await waiting
    await asyncio.gather(*late)
    assert await overtakes(conversation, [turn for _, turn, _ in tickets], three.callers) == 0


async def test_order_without_valkey_from_the_start(tmp_path: Path, database_url: str) -> None:
    async with fleet(settings(tmp_path, database_url, "redis://127.0.0.1:1/0"), 3) as found:
        conversation = await found.caller.conversation()
        holder = await found.caller.begun(conversation)
        tickets = await queue_up(found, conversation, 6)
        waiting = asyncio.create_task(serve(conversation, tickets))
        await asyncio.sleep(1.0)
        await found.caller.commit(conversation, holder)
        await waiting
        assert await overtakes(conversation, [turn for _, turn, _ in tickets], found.callers) == 0


async def test_full_queue_is_told_with_a_time_to_come_again(tmp_path: Path, database_url: str, valkey: Valkey) -> None:
    async with fleet(settings(tmp_path, database_url, valkey.url, max_queue=2)) as found:
        conversation = await found.caller.conversation()
        await found.caller.begun(conversation)
        results = await together(*(found.caller.begin(conversation) for _ in range(4)))
        assert sorted(reasons(results)) == ["", "", "QUEUE_FULL", "QUEUE_FULL"]
        assert all(result.retry_after for result in results if isinstance(result, FocusError))
