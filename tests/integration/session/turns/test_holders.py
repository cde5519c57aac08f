"""Holders as real processes that are paused and killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from focus.session.v1 import turn_pb2
from services.session.store import turns as store
from tests.integration.session.turns.fleet import Caller, Fleet

Process = asyncio.subprocess.Process


@asynccontextmanager
async def holding(three: Fleet, conversation: str) -> AsyncIterator[Process]:
    """A process that has begun a turn of the conversation."""
    me = three.caller.me
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.session.turns.holder_process"),
        *(three.targets[0], me.tenant_id, me.person_id, conversation),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await said(process) == "begun 1"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def told_to_commit(process: Process) -> str:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()
    return await said(process)


async def waited(caller: Caller, conversation: str) -> turn_pb2.BegunTurn:
    response = await caller.begin(conversation)
    assert response.WhichOneof("result") == "queued"
    reached = await caller.wait(conversation, response.queued.ticket)
    assert isinstance(reached, turn_pb2.BegunTurn)
    return reached


async def test_living_holder_is_waited_for(three: Fleet) -> None:
    """For longer than a holder's row lives: its heartbeats count."""
    conversation = await three.caller.conversation()
    async with holding(three, conversation) as process:
        waiting = asyncio.create_task(waited(three.callers[1], conversation))
        await asyncio.sleep(3)
        assert not waiting.done()
        assert await told_to_commit(process) == "stored 1"
        assert (await waiting).seq == 2


@pytest.mark.parametrize("guarded", [True, False])
async def test_stopped_holder_is_replaced_and_then_refused(
    three: Fleet, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP past the time to live, a successor, SIGCONT. Without the guard, the control, its turn is stored."""
    if not guarded:
        unguarded = store._COMMIT.replace(
            "AND fence = $4 AND lease_turn = $5", "AND ($4::bigint, $5::uuid) IS NOT NULL"
        )
        assert unguarded != store._COMMIT
        monkeypatch.setattr(store, "_COMMIT", unguarded)
    conversation = await three.caller.conversation()
    async with holding(three, conversation) as process:
        process.send_signal(signal.SIGSTOP)
        successor = await waited(three.callers[1], conversation)
        process.send_signal(signal.SIGCONT)
        assert await told_to_commit(process) == ("LEASE_LOST" if guarded else "stored 1")
        turn = await three.callers[1].commit(conversation, successor)
    assert (turn.seq == successor.seq) is guarded


async def test_killed_holder_is_replaced(three: Fleet) -> None:
    conversation = await three.caller.conversation()
    async with holding(three, conversation) as process:
        waiting = asyncio.create_task(waited(three.callers[1], conversation))
        process.kill()
        begun = await waiting
    assert (begun.seq, begun.fence) == (1, 2)
    assert (await three.callers[1].commit(conversation, begun)).seq == 1
