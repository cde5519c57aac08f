"""One session process over stores in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.session.line import Line
from services.session.model import Answer, Begun, Ending, Outcome, Principal, Turn, Wanted
from services.session.tickets import Ticket
from services.session.turns import Limits, Queued, Turns
from tests.contract.session.fake_queue import FakeQueue
from tests.contract.session.fake_store import FakeDatabase, FakeTurns
from tests.contract.session.stores import new_id


@dataclass
class House:
    """One session process over stores in memory."""

    turns: Turns
    store: FakeTurns
    queue: FakeQueue
    database: FakeDatabase
    conversation: str
    me: Principal
    holder: str = field(default_factory=new_id)

    def wanted(self, **other: str | bytes) -> Wanted:
        return Wanted(self.me, self.conversation, self.holder, new_id(), **other)  # type: ignore[arg-type]

    async def begun(self, **other: str | bytes) -> Begun:
        await self.turns.renew(self.holder)
        found = await self.turns.begin(self.wanted(**other))
        assert isinstance(found, Begun)
        return found

    async def queued(self, **other: str | bytes) -> Ticket:
        found = await self.turns.begin(self.wanted(**other))
        assert isinstance(found, Queued)
        return found.ticket

    async def commit(self, begun: Begun) -> Turn:
        answer = Answer(text="Because.")
        return await self.turns.commit(
            Ending(self.me, self.conversation, begun.turn_id, begun.fence, "Why?", Outcome.ANSWER, answer)
        )

    def another_process(self) -> House:
        """A second session process over the same stores."""
        turns = Turns(self.store, Line(self.queue), Limits())
        return House(turns, self.store, self.queue, self.database, self.conversation, self.me, self.holder)
