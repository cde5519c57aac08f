"""Conversations, turns and keys in memory: every promise of the stores but durability.

One object is the whole database, so that the three stores see one another's changes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from services.session import chain
from services.session.asks import AskAttempt, WantedAsk
from services.session.conversations import Found, ListPosition, SearchPosition, Share
from services.session.identifiers import split_conversation_id
from services.session.model import Begun, Conversation, Ending, Exchange, Outcome, Principal, Turn, Wanted
from services.session.turns import Attempt, Committed, Prepared

QUEUE_MARK = timedelta(seconds=3)


@dataclass
class _Thread:
    id: str
    owner: Principal
    title: str
    created_at: datetime
    active_at: datetime
    last_hash: bytes
    titled_by: int | None = None
    deleted_at: datetime | None = None
    fence: int = 0
    lease: Wanted | None = None
    leased_at: datetime | None = None
    parent: int = 0
    queued_until: datetime | None = None
    turns: list[Turn] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    retriable: list[bool] = field(default_factory=list)

    def view(self) -> Conversation:
        return Conversation(self.id, self.title, self.created_at, self.active_at, len(self.turns))

    def find(self, turn_id: str) -> Turn | None:
        return next((turn for turn in self.turns if turn.id == turn_id), None)


@dataclass
class _Key:
    digest: bytes
    attempt: str
    holder: str
    conversation_id: str
    created_at: datetime
    waiting_until: datetime | None = None
    saved: bytes | None = None


class FakeDatabase:
    """The tables. `clock` gives the time."""

    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        holder_ttl: timedelta = timedelta(seconds=2),
        max_lease: timedelta = timedelta(minutes=5),
        key_life: timedelta = timedelta(hours=24),
        history_max_turns: int = 200,
        max_turns: int = 10_000,
        max_conversations: int = 10_000,
    ) -> None:
        self.clock = clock
        self.holder_ttl = holder_ttl
        self.max_lease = max_lease
        self.key_life = key_life
        self.history_max_turns = history_max_turns
        self.max_turns = max_turns
        self.max_conversations = max_conversations
        self.threads: dict[str, _Thread] = {}
        self.holders: dict[str, datetime] = {}
        self.cancelled: dict[str, set[str]] = {}
        self.keys: dict[tuple[str, str, str, str], _Key] = {}
        self.links: dict[bytes, Share] = {}

    def lives(self, holder_id: str) -> bool:
        return self.holders.get(holder_id, datetime.min.replace(tzinfo=UTC)) > self.clock()

    def own(self, principal: Principal, conversation_id: str, *, deleted: bool = False) -> _Thread | None:
        thread = self.threads.get(conversation_id)
        if thread is None or thread.owner != principal or (thread.deleted_at is not None and not deleted):
            return None
        return thread


class FakeTurns:
    """See `services.session.turns.TurnStore`."""

    def __init__(self, database: FakeDatabase) -> None:
        self._db = database

    async def begin(self, wanted: Wanted, *, reached: bool) -> Attempt:
        thread = self._db.own(wanted.principal, wanted.conversation_id)
        if thread is None:
            return Attempt("no_conversation")
        now = self._db.clock()
        pivot = thread.find(wanted.replaces_id or wanted.parent_id)
        if (wanted.replaces_id or wanted.parent_id) and pivot is None:
            return Attempt("no_turn")
        if wanted.key:
            refused = self._claim(thread, wanted)
            if refused is not None:
                return refused
        if thread.find(wanted.turn_id) is not None:
            return Attempt("replay", stored_id=wanted.turn_id)
        lease = thread.lease
        again = lease is not None and (lease.turn_id, lease.holder_id) == (wanted.turn_id, wanted.holder_id)
        free = lease is None or not self._db.lives(lease.holder_id) or self._outlived(thread)
        queued = thread.queued_until is not None and thread.queued_until > now
        if len(thread.turns) >= self._db.max_turns:
            self._forget(wanted.turn_id)
            return Attempt("full")
        if not again and not (free and (reached or not queued)):
            thread.queued_until = now + QUEUE_MARK
            ends = self._db.holders.get(lease.holder_id, now) if lease is not None else now
            return Attempt("busy", busy_seconds=max((ends - now).total_seconds(), 0.0))
        thread.fence += 0 if again else 1
        thread.lease, thread.leased_at = wanted, now
        thread.parent = len(thread.turns)
        if pivot is not None:
            parent = thread.find(pivot.parent_id) if wanted.replaces_id else pivot
            thread.parent = parent.seq if parent else 0
        if reached:
            thread.queued_until = now + QUEUE_MARK
        history, cut = self._history(thread, wanted.budget)
        begun = Begun(
            wanted.turn_id,
            thread.fence,
            len(thread.turns) + 1,
            thread.turns[thread.parent - 1].id if thread.parent else "",
            history,
            cut,
            pivot.question if pivot is not None and wanted.replaces_id else "",
        )
        return Attempt("begun", begun, holder_alive=self._db.lives(wanted.holder_id), mark=thread.queued_until)

    async def commit(self, ending: Ending, prepared: Prepared) -> Committed | None:
        thread = self._db.own(ending.principal, ending.conversation_id, deleted=True)
        if thread is None or thread.lease is None:
            return None
        if thread.fence != ending.fence or thread.lease.turn_id != ending.turn_id:
            return None
        now = self._db.clock()
        seq = len(thread.turns) + 1
        turn = Turn(
            id=ending.turn_id,
            seq=seq,
            parent_id=thread.turns[thread.parent - 1].id if thread.parent else "",
            question=ending.question,
            outcome=ending.outcome,
            answer=ending.answer,
            failure_reason=ending.failure_reason,
            failure_message=ending.failure_message,
            created_at=now,
            question_digest=prepared.question_digest,
            answer_digest=prepared.answer_digest,
            previous_hash=thread.last_hash,
            hash=chain.next_hash(thread.last_hash, seq, prepared.digest),
            fence=ending.fence,
            erased=False,
        )
        thread.turns.append(turn)
        thread.sizes.append(prepared.history_tokens)
        thread.retriable.append(prepared.retriable)
        thread.last_hash, thread.active_at, thread.lease, thread.leased_at = turn.hash, now, None, None
        if not thread.title:
            thread.title, thread.titled_by = prepared.title, seq
        return Committed(turn, thread.queued_until is not None and thread.queued_until > now)

    async def find(self, principal: Principal, conversation_id: str, turn_id: str) -> Turn | None:
        thread = self._db.own(principal, conversation_id, deleted=True)
        return thread.find(turn_id) if thread else None

    async def abandon(self, principal: Principal, conversation_id: str, turn_id: str) -> bool | None:
        thread = self._db.own(principal, conversation_id, deleted=True)
        if thread is None:
            return None
        if thread.find(turn_id) is None:
            self._forget(turn_id)
        if thread.lease is None or thread.lease.turn_id != turn_id:
            return None
        thread.lease = thread.leased_at = None
        return thread.queued_until is not None and thread.queued_until > self._db.clock()

    async def calm(self, conversation_id: str, turn_id: str, mark: datetime) -> None:
        thread = self._db.threads[conversation_id]
        if thread.lease is not None and thread.lease.turn_id == turn_id and thread.queued_until == mark:
            thread.queued_until = None

    async def cancel(self, principal: Principal, conversation_id: str, turn_id: str) -> bool | None:
        thread = self._db.own(principal, conversation_id, deleted=True)
        if thread is None or thread.lease is None or thread.lease.turn_id != turn_id:
            return None
        self._db.cancelled.setdefault(thread.lease.holder_id, set()).add(turn_id)
        return self._db.lives(thread.lease.holder_id)

    async def cancel_waiting(self, principal: Principal, conversation_id: str, turn_id: str) -> bool:
        if self._db.own(principal, conversation_id, deleted=True) is None:
            return False
        for holder in filter(self._db.lives, self._db.holders):
            self._db.cancelled.setdefault(holder, set()).add(turn_id)
        return True

    async def renew(self, holder_id: str, stopped: Sequence[str] = ()) -> Sequence[str]:
        self._db.holders[holder_id] = self._db.clock() + self._db.holder_ttl
        self._db.cancelled[holder_id] = self._db.cancelled.get(holder_id, set()) - set(stopped)
        return list(self._db.cancelled[holder_id])

    async def release(self, holder_id: str) -> None:
        self._db.holders.pop(holder_id, None)
        self._db.cancelled.pop(holder_id, None)

    async def keep_key(self, turn_id: str) -> None:
        for key in self._db.keys.values():
            if key.attempt == turn_id:
                key.waiting_until = self._db.clock() + QUEUE_MARK

    def _claim(self, thread: _Thread, wanted: Wanted) -> Attempt | None:
        now = self._db.clock()
        name = (wanted.principal.tenant_id, wanted.principal.person_id, "turns", wanted.key)
        key = self._db.keys.get(name)
        if key is not None and key.created_at > now - self._db.key_life:
            if key.digest != wanted.digest or key.conversation_id != thread.id:
                return Attempt("reused")
            if key.attempt != wanted.turn_id:
                stored = thread.find(key.attempt)
                if stored is not None and not thread.retriable[stored.seq - 1]:
                    return Attempt("replay", stored_id=stored.id)
                mine = thread.lease is not None and thread.lease.turn_id == key.attempt
                waiting = key.waiting_until is not None and key.waiting_until > now
                leased = mine and not self._outlived(thread)
                if stored is None and self._db.lives(key.holder) and (waiting or leased):
                    return Attempt("in_progress")
                if mine:
                    thread.lease = thread.leased_at = None
                    thread.fence += 1
        self._db.keys[name] = _Key(
            wanted.digest, wanted.turn_id, wanted.holder_id, thread.id, now, waiting_until=now + QUEUE_MARK
        )
        return None

    def _outlived(self, thread: _Thread) -> bool:
        return thread.leased_at is not None and thread.leased_at < self._db.clock() - self._db.max_lease

    def _forget(self, turn_id: str) -> None:
        self._db.keys = {name: key for name, key in self._db.keys.items() if key.attempt != turn_id}

    def _history(self, thread: _Thread, budget: int) -> tuple[list[Exchange], bool]:
        kept: list[Exchange] = []
        used, seq = 0, thread.parent
        while seq:
            turn = thread.turns[seq - 1]
            size = thread.sizes[seq - 1]
            used += size
            if size and (used > budget or len(kept) == self._db.history_max_turns):
                return kept[::-1], True
            if size:
                kept.append(Exchange(turn.question, turn.answer.text))
            parent = thread.find(turn.parent_id)
            seq = parent.seq if parent else 0
        return kept[::-1], False


class FakeConversations:
    """See `services.session.conversations.ConversationStore`. A search finds whole words only."""

    def __init__(self, database: FakeDatabase) -> None:
        self._db = database

    async def create(self, principal: Principal, title: str) -> Conversation | None:
        mine = [t for t in self._db.threads.values() if t.owner == principal and t.deleted_at is None]
        if len(mine) >= self._db.max_conversations:
            return None
        name, now = str(uuid.uuid4()), self._db.clock()
        thread = _Thread(f"local-{name}", principal, title, now, now, chain.first_hash(name))
        self._db.threads[thread.id] = thread
        return thread.view()

    async def get(self, principal: Principal, conversation_id: str) -> Conversation | None:
        thread = self._db.own(principal, conversation_id)
        return thread.view() if thread else None

    async def turns(self, conversation_id: str, after: int, last: int, limit: int) -> Sequence[Turn]:
        return self._db.threads[conversation_id].turns[after:last][:limit]

    async def listed(
        self, principal: Principal, after: ListPosition | None, limit: int
    ) -> tuple[Sequence[tuple[Conversation, datetime]], datetime]:
        as_of = after.as_of if after else self._db.clock()
        rows = []
        for thread in self._db.threads.values():
            if thread.owner != principal or thread.deleted_at is not None or thread.created_at > as_of:
                continue
            moments = [thread.created_at, *(turn.created_at for turn in thread.turns)]
            rows.append((thread.view(), max(moment for moment in moments if moment <= as_of)))
        rows.sort(key=lambda row: (row[1], _uuid(row[0].id)), reverse=True)
        if after is not None:
            rows = [row for row in rows if (row[1], _uuid(row[0].id)) < (after.active_at, after.conversation_uuid)]
        return rows[:limit], as_of

    async def rename(self, principal: Principal, conversation_id: str, title: str) -> Conversation | None:
        thread = self._db.own(principal, conversation_id)
        if thread is None:
            return None
        thread.title, thread.titled_by = title, None
        return thread.view()

    async def delete(self, principal: Principal, conversation_id: str) -> datetime | None:
        thread = self._db.own(principal, conversation_id)
        if thread is None:
            return None
        thread.deleted_at = self._db.clock()
        return thread.deleted_at

    async def restore(
        self, principal: Principal, conversation_id: str, deleted_after: timedelta
    ) -> Conversation | None:
        thread = self._db.own(principal, conversation_id, deleted=True)
        if thread is None or (thread.deleted_at and thread.deleted_at <= self._db.clock() - deleted_after):
            return None
        thread.deleted_at = None
        return thread.view()

    async def erase(self, principal: Principal, conversation_id: str, turn_id: str) -> Turn | None:
        thread = self._db.own(principal, conversation_id)
        turn = thread.find(turn_id) if thread else None
        if thread is None or turn is None:
            return None
        erased = replace(turn, question="", answer=replace(turn.answer, text=""), erased=True)
        thread.turns[turn.seq - 1] = erased
        thread.sizes[turn.seq - 1] = 0
        if thread.titled_by == turn.seq:
            thread.title, thread.titled_by = "", None
        return erased

    async def search(
        self, principal: Principal, query: str, after: SearchPosition | None, limit: int
    ) -> Sequence[Found]:
        wanted = set(query.casefold().split())
        found = [
            Found(thread.id, thread.title, turn.id, turn.seq, turn.created_at, turn.question)
            for thread in self._db.threads.values()
            if thread.owner == principal and thread.deleted_at is None
            for turn in thread.turns
            if wanted <= set(f"{turn.question} {turn.answer.text}".casefold().split())
        ]
        found.sort(key=lambda one: (one.created_at, _uuid(one.conversation_id), one.seq), reverse=True)
        if after is not None:
            position = (after.created_at, after.conversation_uuid, after.seq)
            found = [one for one in found if (one.created_at, _uuid(one.conversation_id), one.seq) < position]
        return found[:limit]

    async def share(self, principal: Principal, conversation_id: str, secret_hash: bytes, most: int) -> Share | None:
        if len(await self.shares(conversation_id)) >= most:
            return None
        thread = self._db.threads[conversation_id]
        link = Share(str(uuid.uuid4()), thread.id, self._db.clock(), len(thread.turns))
        self._db.links[secret_hash] = link
        return link

    async def shares(self, conversation_id: str) -> Sequence[Share]:
        links = [link for link in self._db.links.values() if link.conversation_id == conversation_id]
        return sorted(links, key=lambda link: link.created_at, reverse=True)

    async def withdraw(self, principal: Principal, share_id: str) -> bool:
        for secret_hash, link in self._db.links.items():
            if link.id == share_id and self._db.threads[link.conversation_id].owner == principal:
                del self._db.links[secret_hash]
                return True
        return False

    async def shared(self, secret_hash: bytes) -> tuple[Conversation, Share] | None:
        link = self._db.links.get(secret_hash)
        thread = self._db.threads.get(link.conversation_id) if link else None
        if link is None or thread is None or thread.deleted_at is not None:
            return None
        return thread.view(), link

    async def set_retention(self, principal: Principal, days: int) -> None:
        """What outlives it goes by the upkeep, of which this store has none."""


class FakeAsks:
    """See `services.session.asks.AskStore`."""

    def __init__(self, database: FakeDatabase) -> None:
        self._db = database

    async def begin(self, wanted: WantedAsk) -> AskAttempt:
        now = self._db.clock()
        name = (wanted.principal.tenant_id, wanted.principal.person_id, wanted.route, wanted.key)
        key = self._db.keys.get(name)
        if key is not None and key.created_at > now - self._db.key_life:
            if key.digest != wanted.digest:
                return AskAttempt("reused")
            if key.saved is not None:
                return AskAttempt("replay", key.saved)
            fresh = key.created_at > now - self._db.max_lease
            if key.attempt != wanted.ask_id and self._db.lives(key.holder) and fresh:
                return AskAttempt("in_progress")
        self._db.keys[name] = _Key(wanted.digest, wanted.ask_id, wanted.holder_id, "", now)
        return AskAttempt("begun", holder_alive=self._db.lives(wanted.holder_id))

    async def commit(self, principal: Principal, ask_id: str, saved: bytes) -> bytes | None:
        for name, key in self._db.keys.items():
            if key.attempt == ask_id and name[:2] == (principal.tenant_id, principal.person_id):
                key.saved = saved if key.saved is None else key.saved
                return key.saved
        return None

    async def abandon(self, principal: Principal, ask_id: str) -> bool:
        for name, key in self._db.keys.items():
            if key.attempt == ask_id and key.saved is None and name[0] == principal.tenant_id:
                del self._db.keys[name]
                return True
        return False

    async def renew(self, holder_id: str) -> None:
        self._db.holders[holder_id] = self._db.clock() + self._db.holder_ttl


def _uuid(conversation_id: str) -> str:
    return split_conversation_id(conversation_id)[1]


def prepared(ending: Ending) -> Prepared:
    """What `Turns` computes, for tests that talk to a store directly: a token for every character."""
    question, answer = chain.text_digest(ending.question), chain.text_digest(ending.answer.text)
    said = ending.outcome is not Outcome.FAILURE and ending.answer.text
    return Prepared(
        question_digest=question,
        answer_digest=answer,
        digest=chain.turn_digest(ending.turn_id, ending.outcome, question, answer),
        title=ending.question[:20],
        history_tokens=len(ending.question) + len(ending.answer.text) if said else 0,
        retriable=ending.failure_reason == "QUOTA_EXHAUSTED",
    )
