"""Stopping and leaving a flow, apart from what it does."""

from __future__ import annotations

import asyncio

import pytest

from services.flow.events import Delta
from services.flow.flight import Course, Stopped
from tests.unit.flow.conftest import fly, settled


async def until_stopped(course: Course) -> str:
    try:
        with course.interruptible():
            await asyncio.Event().wait()
    except Stopped:
        await asyncio.sleep(0)  # what follows is not cancelled any more
        return "stopped"
    return "never"


@pytest.mark.parametrize("durable", [True, False])
async def test_a_stop_interrupts_once_and_the_flow_goes_on(durable: bool) -> None:
    flight = fly(until_stopped, durable=durable)
    await settled()
    flight.stop()
    flight.stop()
    assert await flight.result() == "stopped"


async def test_a_stop_before_the_block_is_seen_at_its_start() -> None:
    flight = fly(until_stopped)
    flight.stop()
    assert await flight.result() == "stopped"


async def test_a_durable_flow_that_must_finish_is_not_stopped_by_leaving() -> None:
    async def flow(course: Course) -> str:
        course.must_finish()
        return await until_stopped(course)

    flight = fly(flow)
    await settled()
    flight.leave()
    await settled()
    assert not flight.done
    flight.stop()
    assert await flight.result() == "stopped"


async def test_another_ones_cancellation_stays_a_cancellation() -> None:
    flight = fly(until_stopped)
    await settled()
    flight.stop()
    flight.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flight.task


async def test_a_follower_that_is_cancelled_leaves_the_flow_running() -> None:
    go = asyncio.Event()

    async def flow(course: Course) -> str:
        await go.wait()
        return "done"

    flight = fly(flow)
    follower = asyncio.ensure_future(flight.result())
    await settled()
    follower.cancel()
    await settled()
    go.set()
    assert await flight.result() == "done"


async def test_events_are_read_in_order_and_not_kept_for_nobody() -> None:
    go = asyncio.Event()

    async def flow(course: Course) -> str:
        course.emit(Delta("a"))
        course.emit(Delta("b"))
        await go.wait()
        course.emit(Delta("c"))
        return course.text

    flight = fly(flow)
    assert await flight.next_events(5) == [Delta("a"), Delta("b")]
    flight.leave()
    go.set()
    assert await flight.result() == "abc"
    assert await flight.next_events(5) == []
