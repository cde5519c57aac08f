"""A house for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.session.line import Line
from services.session.turns import Limits, Turns
from tests.contract.session.fake_queue import FakeQueue
from tests.contract.session.fake_store import FakeConversations, FakeDatabase, FakeTurns
from tests.contract.session.stores import somebody
from tests.unit.session.turns.house import House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    database, me = FakeDatabase(), somebody()
    conversation = await FakeConversations(database).create(me, "")
    assert conversation is not None
    store, queue = FakeTurns(database), FakeQueue(max_queue=3)
    line = Line(queue)
    queue.woken = line.woken
    turns = Turns(store, line, Limits())
    yield House(turns, store, queue, database, conversation.id, me)
    await turns.close()
