"""A conversation's life: random beginnings, endings, branches, cancels, deaths and repeats against a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.session import chain
from services.session.identifiers import split_conversation_id
from services.session.model import Begun, Outcome, Turn
from tests.contract.session.stores import MAX_TURNS, Stores, new_id, somebody

DIGEST = b"d" * 32
FOLLOW = st.sampled_from(["newest", "parent", "replace"])
# Whole turns are drawn more often than steps of one, or few examples would have a branch.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), FOLLOW, st.integers(0, 9)),
        st.tuples(st.just("turn"), FOLLOW, st.integers(0, 9)),
        st.tuples(st.just("begin"), FOLLOW, st.integers(0, 9)),
        st.tuples(st.just("keyed"), st.sampled_from(["a", "b"]), st.just(0)),
        st.tuples(st.just("commit"), st.sampled_from(list(Outcome)), st.just(0)),
        st.tuples(st.sampled_from(["repeat", "late", "erase"]), st.just(""), st.integers(0, 9)),
        st.tuples(st.sampled_from(["abandon", "die"]), st.just(""), st.just(0)),
    ),
    min_size=6,
    max_size=30,
)


@dataclass
class Model:
    """What a conversation is: turns that follow turns, one lease, and the turns that keys have made."""

    turns: list[tuple[str, int, bool]] = field(default_factory=list)  # question, parent's seq, is history
    lease: tuple[int, str] | None = None  # parent's seq, key
    keys: dict[str, int] = field(default_factory=dict)  # seq

    def history(self, seq: int) -> list[str]:
        if not seq:
            return []
        question, parent, said = self.turns[seq - 1]
        return self.history(parent) + [question] * said

    def parent(self, follow: str, seq: int) -> int:
        return {"newest": len(self.turns), "parent": seq, "replace": self.turns[seq - 1][1] if seq else 0}[follow]


@dataclass
class Life:
    """The model, the real thing, and what was given to whom."""

    stores: Stores
    conversation: str
    model: Model = field(default_factory=Model)
    begun: Begun | None = None
    past: list[Begun] = field(default_factory=list)
    stored: list[Turn] = field(default_factory=list)

    async def begin(self, follow: str, number: int) -> None:
        seq = number % len(self.stored) + 1 if self.stored and follow != "newest" else 0
        field_name = {"parent": "parent_id", "replace": "replaces_id"}.get(follow if seq else "", "")
        other: dict[str, str | bytes] = {field_name: self.stored[seq - 1].id} if field_name else {}
        await self._begin(self.model.parent(follow if seq else "newest", seq), "", other)

    async def turn(self, follow: str, number: int) -> None:
        await self.begin(follow, number)
        await self.commit(Outcome.ANSWER, 0)

    async def keyed(self, key: str, _: int) -> None:
        if key in self.model.keys:
            wanted = self.stores.wanted(self.conversation, key=key, digest=DIGEST)
            attempt = await self.stores.turns.begin(wanted, reached=False)
            assert (attempt.status, attempt.stored_id) == ("replay", self.stored[self.model.keys[key] - 1].id)
        elif self.model.lease is not None and self.model.lease[1] == key:
            wanted = self.stores.wanted(self.conversation, key=key, digest=DIGEST)
            assert (await self.stores.turns.begin(wanted, reached=True)).status == "in_progress"
        else:
            await self._begin(len(self.model.turns), key, {"key": key, "digest": DIGEST})

    async def _begin(self, parent: int, key: str, other: dict[str, str | bytes]) -> None:
        await self.stores.turns.renew(self.stores.holder)
        wanted = self.stores.wanted(self.conversation, **other)
        attempt = await self.stores.turns.begin(wanted, reached=True)
        if len(self.stored) == MAX_TURNS:
            assert attempt.status == "full"
        elif self.model.lease is not None:
            assert attempt.status == "busy"
            await self.stores.turns.abandon(self.stores.me, self.conversation, wanted.turn_id)
        else:
            assert attempt.begun is not None
            assert attempt.begun.seq == len(self.model.turns) + 1
            assert [exchange.question for exchange in attempt.begun.history] == self.model.history(parent)
            assert all(attempt.begun.fence > past.fence for past in self.past)
            self.begun = attempt.begun
            self.past.append(attempt.begun)
            self.model.lease = (parent, key)

    async def commit(self, outcome: Outcome, _: int) -> None:
        if self.begun is None or self.model.lease is None:
            return
        question = f"q{len(self.stored)}"
        ending = self.stores.ending(self.conversation, self.begun, question)
        ending.outcome = outcome
        if outcome is Outcome.FAILURE:
            ending.answer.text, ending.failure_reason = "", "ANSWER_BLOCKED"
        turn = await self.stores.commit(ending)
        assert turn is not None
        self.stored.append(turn)
        parent, key = self.model.lease
        self.model.turns.append((question, parent, outcome is not Outcome.FAILURE))
        if key:
            self.model.keys[key] = turn.seq
        self.begun = self.model.lease = None

    async def repeat(self, _: str, number: int) -> None:
        """A commit whose acknowledgement got lost is sent again."""
        if self.stored:
            turn = self.stored[number % len(self.stored)]
            again = Begun(turn.id, turn.fence, turn.seq, turn.parent_id)
            assert await self.stores.commit(self.stores.ending(self.conversation, again)) is None
            found = await self.stores.turns.find(self.stores.me, self.conversation, turn.id)
            assert found is not None
            assert (found.seq, found.hash) == (turn.seq, turn.hash)

    async def late(self, _: str, number: int) -> None:
        """A commit under a lease that is over."""
        over = [begun for begun in self.past if begun is not self.begun]
        if over:
            late = over[number % len(over)]
            assert await self.stores.commit(self.stores.ending(self.conversation, late, "late?")) is None

    async def erase(self, _: str, number: int) -> None:
        if self.stored:
            seq = number % len(self.stored)
            await self.stores.conversations.erase(self.stores.me, self.conversation, self.stored[seq].id)
            self.model.turns[seq] = (*self.model.turns[seq][:2], False)

    async def abandon(self, _: str, __: int) -> None:
        if self.begun is not None:
            await self.stores.turns.abandon(self.stores.me, self.conversation, self.begun.turn_id)
            self.begun = self.model.lease = None

    async def die(self, _: str, __: int) -> None:
        """The holder dies; its successor is another process, which finishes nothing of it."""
        await self.stores.turns.release(self.stores.holder)
        self.stores.holder = new_id()
        if self.begun is not None:
            await self.stores.turns.renew(self.stores.holder)
            heir = await self.stores.turns.begin(self.stores.wanted(self.conversation), reached=True)
            assert heir.begun is not None
            self.past.append(heir.begun)
            self.begun, self.model.lease = heir.begun, (len(self.model.turns), "")

    async def check(self) -> None:
        """What is stored is what the model says, in one unbroken chain."""
        rows = await self.stores.conversations.turns(self.conversation, 0, 99, 99)
        assert [row.seq for row in rows] == list(range(1, len(self.model.turns) + 1))
        previous = chain.first_hash(split_conversation_id(self.conversation)[1])
        fence = 0
        for row, (question, parent, _) in zip(rows, self.model.turns, strict=True):
            assert row.question == ("" if row.erased else question)
            assert row.parent_id == (rows[parent - 1].id if parent else "")
            assert row.fence >= fence
            fence = row.fence
            assert row.previous_hash == previous
            digest = chain.turn_digest(row.id, row.outcome, row.question_digest, row.answer_digest)
            previous = chain.next_hash(previous, row.seq, digest)
            assert row.hash == previous


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
async def test_conversation_lives_as_the_model_says(stores: Stores, steps: list[tuple[str, object, int]]) -> None:
    stores.me, stores.holder = somebody(), new_id()
    life = Life(stores, await stores.conversation())
    for name, first, second in steps:
        await getattr(life, name)(first, second)
    await life.check()
