"""The heartbeat of a process that holds leases."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import DeadlineExceeded, FocusError, Unavailable
from services.flow.holder import Holder
from tests.unit.flow.fakes import World


async def test_the_row_is_there_before_the_first_lease_and_kept_after(world: World) -> None:
    holder = Holder(world.turns, interval=0.01)
    async with holder.beating():
        await asyncio.sleep(0.03)
        assert world.trace.calls == []
        async with holder.hold() as first:
            assert world.trace.calls == ["renew"]
            await asyncio.wait_for(world.trace.until("renew", 4), 5)
        async with holder.hold() as second:
            assert second == first
    assert world.trace.calls[-1] == "release"


@pytest.mark.parametrize("failure", [Unavailable("gone"), RuntimeError("a defect")])
async def test_a_beat_that_fails_is_followed_by_the_next(world: World, failure: Exception) -> None:
    world.trace.failures["renew"].extend([None, *[failure] * 3])
    holder = Holder(world.turns, interval=0.01)
    async with holder.beating(), holder.hold():
        await asyncio.wait_for(world.trace.until("renew", 6), 5)


@pytest.mark.parametrize("failure", [Unavailable("gone"), DeadlineExceeded("late")])
async def test_without_a_row_no_lease_is_asked_for(world: World, failure: FocusError) -> None:
    world.trace.failures["renew"].append(failure)
    holder = Holder(world.turns)
    async with holder.beating():
        with pytest.raises(Unavailable):
            async with holder.hold():
                raise AssertionError("not reached")
        async with holder.hold():
            assert len(world.turns.renewed) == 1


async def test_what_cannot_be_abandoned_runs_out_under_its_old_id(world: World) -> None:
    """The old id is not renewed any more once nothing else is held under it."""
    holder = Holder(world.turns, interval=0.01, abandon_pauses=(0.0, 0.0))
    tried = asyncio.Event()
    tries = 0

    async def fail(timeout: float) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            tried.set()
        raise Unavailable("gone")

    async with holder.beating():
        async with holder.hold() as before:
            holder.abandon(before, fail)
            await asyncio.wait_for(tried.wait(), 5)
            await asyncio.sleep(0)
        async with holder.hold() as after:
            assert after != before
            seen = len(world.turns.renewed)
            await asyncio.wait_for(world.trace.until("renew", world.trace.calls.count("renew") + 3), 5)
            assert before not in world.turns.renewed[seen + 1 :]


async def test_turns_cancelled_elsewhere_are_stopped_though_beats_get_lost(world: World) -> None:
    world.turns.cancelled = ["one", "two"]
    # The first beat's answer, and the first one that tells what was stopped, do not arrive.
    world.trace.lost["renew"].append(Unavailable("gone"))
    world.trace.failures["renew"].extend([None, None, Unavailable("gone")])
    stopped: list[str] = []
    holder = Holder(world.turns, interval=0.01)
    async with holder.beating(stopped.append):
        with pytest.raises(Unavailable):
            async with holder.hold():
                pass
        async with holder.hold():
            await asyncio.wait_for(world.trace.until("renew", 8), 5)
    assert set(stopped) == {"one", "two"}
    assert world.turns.cancelled == []
    assert set(world.turns.stopped) == {"one", "two"}
