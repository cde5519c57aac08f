from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from services.flow.deadline import Deadline
from services.flow.flight import Course, Flight
from services.flow.holder import Holder
from services.flow.question import Committed, Question
from services.flow.turn import TurnRequest, run_turn
from tests.unit.flow.fakes import PRINCIPAL, World

ResultT = TypeVar("ResultT")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.close()


@pytest.fixture
async def holder(world: World) -> AsyncIterator[Holder]:
    holder = Holder(world.turns)
    async with holder.beating():
        yield holder


Ask = Callable[..., Flight[Committed]]


@pytest.fixture
def turn(world: World, holder: Holder) -> Ask:
    """Starts a turn: `turn(conversation_id, "Question?", streaming=True)`."""
    count = 0

    def start(
        conversation_id: str, text: str, *, streaming: bool = True, seconds: float = 30.0, **changes: Any
    ) -> Flight[Committed]:
        nonlocal count
        count += 1
        request = TurnRequest(PRINCIPAL, conversation_id, f"turn-{count}", Question(text), **changes)
        deadline = Deadline.after(seconds)
        return fly(lambda course: run_turn(world.clients, holder, request, course, deadline), streaming=streaming)

    return start


def fly(
    flow: Callable[[Course], Coroutine[Any, Any, ResultT]], *, streaming: bool = True, durable: bool = True
) -> Flight[ResultT]:
    return Flight(flow, Course(streaming=streaming, durable=durable))


async def settled() -> None:
    """Lets everything that waits for nothing come to its end."""
    for _ in range(30):
        await asyncio.sleep(0)
