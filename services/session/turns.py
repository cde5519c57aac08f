"""Turns of a conversation: one at a time, in the order of arrival, each stored once.

Safety comes from the store (a lease with a fence that the committing statement checks),
order and wake-ups from the line. While somebody waits or a model works, nothing of the
store is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import errors, logs
from services.common.errors import FocusError, InvalidRequest
from services.session import chain, identifiers
from services.session.line import Line, Place
from services.session.model import Begun, Ending, Outcome, Principal, Turn, Wanted
from services.session.outcomes import is_retriable
from services.session.tickets import Ticket

log = logs.get(__name__)

# How soon a repeat with the same Idempotency-Key is worth while, and a full queue's retry.
_RETRY_SECONDS = 1.0
# Answered this much before the caller's deadline, so that the caller still hears it.
_DEADLINE_MARGIN = 0.1
# A waiter says this often that its Idempotency-Key is in use.
_KEY_SECONDS = 1.0
_TITLE_CHARS = 80
# About 4 MB: history must fit into a gRPC message.
_MAX_HISTORY_TOKENS = 1_000_000


@dataclass(slots=True)
class Attempt:
    """What a begin came to: begun, busy, replay, reused, in_progress, no_conversation, no_turn or full.

    `busy_seconds`: how long the holder in the way lives without a further heartbeat.
    """

    status: str
    begun: Begun | None = None
    stored_id: str = ""
    stored: Turn | None = None
    busy_seconds: float = 0.0
    holder_alive: bool = True
    # Until when newcomers must queue.
    mark: datetime | None = None


@dataclass(slots=True)
class Prepared:
    """What is computed of a turn before it is stored."""

    question_digest: bytes
    answer_digest: bytes
    digest: bytes
    title: str
    history_tokens: int
    retriable: bool


@dataclass(slots=True)
class Committed:
    """A stored turn, and whether somebody waits for the lease that it gave back."""

    turn: Turn
    queued: bool


class TurnStore(Protocol):
    """The truth about turns. Every call raises Unavailable while it cannot be reached."""

    async def begin(self, wanted: Wanted, *, reached: bool) -> Attempt: ...
    async def commit(self, ending: Ending, prepared: Prepared) -> Committed | None: ...
    async def find(self, principal: Principal, conversation_id: str, turn_id: str) -> Turn | None: ...
    async def abandon(self, principal: Principal, conversation_id: str, turn_id: str) -> bool | None: ...
    async def calm(self, conversation_id: str, turn_id: str, mark: datetime) -> None: ...
    async def cancel(self, principal: Principal, conversation_id: str, turn_id: str) -> bool | None: ...
    async def cancel_waiting(self, principal: Principal, conversation_id: str, turn_id: str) -> bool: ...
    async def renew(self, holder_id: str, stopped: Sequence[str] = ()) -> Sequence[str]: ...
    async def release(self, holder_id: str) -> None: ...
    async def keep_key(self, turn_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Queued:
    """A place in a conversation's queue; 1 is next."""

    ticket: Ticket
    position: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Lengths in characters; history in estimated tokens."""

    question_chars: int = 100_000
    answer_chars: int = 1_000_000
    history_tokens: int = 8_000


class Turns:
    """Begins, waits for, commits and gives up turns."""

    def __init__(self, store: TurnStore, line: Line, limits: Limits) -> None:
        self._store = store
        self._line = line
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, wanted: Wanted) -> Begun | Queued | Turn:
        """The lease, a place in the queue, or the turn that was stored for this key or id before.

        Raises NotFound, InvalidRequest (IDEMPOTENCY_KEY_REUSED), Conflict
        (IDEMPOTENCY_IN_PROGRESS), Exhausted (QUEUE_FULL, LIMIT_REACHED).
        """
        self._check(wanted)
        try:
            attempt = await self._try(wanted, reached=False)
            found = attempt.begun or attempt.stored
            if found is not None:
                return found
            spot = await self._line.join(wanted.conversation_id, wanted.turn_id)
        except (asyncio.CancelledError, errors.Exhausted, errors.Unavailable):
            # Whether the lease or the key was taken may be unknown, and nobody is left to use it.
            self._soon(self.abandon(wanted.principal, wanted.conversation_id, wanted.turn_id))
            raise
        return Queued(Ticket(wanted, spot.arrived), spot.position)

    async def wait(self, ticket: Ticket, timeout: float) -> AsyncGenerator[int | Begun | Turn, None]:
        """Positions in the queue and at last the turn, for at most `timeout` seconds.

        Closing the generator earlier gives the place up. Raises NotFound (TICKET_UNKNOWN),
        DeadlineExceeded (CONVERSATION_BUSY) and as `begin`.
        """
        wanted = ticket.wanted
        self._check(wanted)
        now = asyncio.get_running_loop().time
        deadline = now() + timeout - _DEADLINE_MARGIN
        place: Place | None = None
        mark: datetime | None = None
        unknown = bool(wanted.key)  # whether something of this turn may stay behind in the store
        try:
            async with self._line.place(wanted.conversation_id, wanted.turn_id, ticket.arrived) as place:
                told = 0
                key_until = 0.0
                while True:
                    if place.position != told:
                        told = place.position
                        yield told
                    if place.first and (place.take_wake() or now() >= place.look_at):
                        unknown = True
                        attempt = await self._try(wanted, reached=True)
                        unknown = bool(wanted.key)
                        reached = attempt.begun or attempt.stored
                        if reached is not None:
                            unknown = False
                            mark = attempt.mark
                            place.has_turn = attempt.begun is not None
                            # The place is given up afterwards: the turn need not wait for that.
                            yield reached
                            return
                        # A holder that dies frees its lease at a known time.
                        place.look_at = now() + min(max(attempt.busy_seconds + 0.005, 0.05), place.look_seconds)
                        continue
                    if now() >= deadline:
                        raise errors.DeadlineExceeded(
                            "Other turns of this conversation took longer than the time there was; try again.",
                            ErrorReason.ERROR_REASON_CONVERSATION_BUSY,
                            retry_after=_RETRY_SECONDS,
                        )
                    if wanted.key and now() >= key_until:
                        await self._store.keep_key(wanted.turn_id)
                        key_until = now() + _KEY_SECONDS
                    until = min(deadline, key_until) if wanted.key else deadline
                    if place.first:
                        until = min(until, place.look_at)
                    await place.changed(until - now())
        finally:
            if unknown:
                self._soon(self.abandon(wanted.principal, wanted.conversation_id, wanted.turn_id))
            elif mark is not None and place is not None and place.last:
                self._soon(self._store.calm(wanted.conversation_id, wanted.turn_id, mark))

    async def commit(self, ending: Ending) -> Turn:
        """Stores a turn; repeated, gives what was stored.

        Raises Conflict (LEASE_LOST), InvalidRequest (QUESTION_TOO_LONG).
        """
        ending, prepared = self._prepare(ending)
        committed = await self._store.commit(ending, prepared)
        if committed is not None:
            if committed.queued:
                self._soon(self._line.wake(ending.conversation_id, ending.turn_id))
            return committed.turn
        # A statement of its own: the commit that went before is visible to it for certain.
        stored = await self._store.find(ending.principal, ending.conversation_id, ending.turn_id)
        if stored is None:
            raise errors.Conflict(
                "The conversation went on without this turn, which took too long; nothing was stored.",
                ErrorReason.ERROR_REASON_LEASE_LOST,
            )
        return stored

    async def abandon(self, principal: Principal, conversation_id: str, turn_id: str) -> None:
        """Gives lease, place in the queue and key up. What was committed stays."""
        identifiers.require_uuid("turn_id", turn_id)
        identifiers.split_conversation_id(conversation_id)
        queued = await self._store.abandon(principal, conversation_id, turn_id)
        if queued is None:
            await self._line.leave(conversation_id, turn_id)
        elif queued:
            await self._line.wake(conversation_id, turn_id)

    async def cancel(self, principal: Principal, conversation_id: str, turn_id: str) -> Turn | None:
        """Has a turn stopped where it runs; gives it if it has ended, None while it is being stopped.

        Raises NotFound (TURN_NOT_FOUND): it neither runs, nor waits, nor is stored.
        """
        identifiers.require_uuid("turn_id", turn_id)
        identifiers.split_conversation_id(conversation_id)
        told = await self._store.cancel(principal, conversation_id, turn_id)
        if told is None:
            # Who holds the lease is known, who waits for it is not: then everybody is told.
            if await self._line.waits(conversation_id, turn_id) and await self._store.cancel_waiting(
                principal, conversation_id, turn_id
            ):
                return None
            # From the queue to the lease, from there into the store: looked for in this order, none is missed.
            told = await self._store.cancel(principal, conversation_id, turn_id)
        if told:
            return None
        if told is False:
            # Its holder is dead; even if it were to come back, it could not commit any more.
            await self.abandon(principal, conversation_id, turn_id)
        stored = await self._store.find(principal, conversation_id, turn_id)
        if stored is None:
            raise identifiers.no_turn()
        return stored

    async def renew(self, holder_id: str, stopped: Sequence[str] = ()) -> Sequence[str]:
        """A process says that it lives, and which turns it has stopped; gives those that it is to stop."""
        for turn_id in stopped:
            identifiers.require_uuid("stopped_turn_ids", turn_id)
        return await self._store.renew(identifiers.require_uuid("holder_id", holder_id), stopped)

    async def release(self, holder_id: str) -> None:
        """A process says that it ends."""
        await self._store.release(identifiers.require_uuid("holder_id", holder_id))

    async def close(self) -> None:
        """Waits for what calls that were cut short left to be done."""
        await asyncio.gather(*self._tasks)

    async def _try(self, wanted: Wanted, *, reached: bool) -> Attempt:
        """An attempt that began, is to be repeated later, or found what is stored."""
        attempt = await self._store.begin(wanted, reached=reached)
        match attempt.status:
            case "begun":
                if not attempt.holder_alive:
                    # Its first turn, or it was paused: without a row the lease would be anybody's.
                    await self._store.renew(wanted.holder_id)
            case "busy":
                pass
            case "replay":
                attempt.stored = await self._store.find(wanted.principal, wanted.conversation_id, attempt.stored_id)
                if attempt.stored is None:
                    raise identifiers.no_conversation()  # destroyed in this very moment
            case refused:
                raise _refusal(refused)
        return attempt

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Does it in a task of its own, for calls that are cancelled or answered meanwhile."""

        async def run() -> None:
            try:
                await work
            except FocusError as err:
                # Whoever holds the turn knows that the call failed, and abandons it too.
                log.info("tidying up after a call failed", reason=err.reason_name)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _check(self, wanted: Wanted) -> None:
        identifiers.split_conversation_id(wanted.conversation_id)
        identifiers.require_uuid("holder_id", wanted.holder_id)
        identifiers.require_uuid("turn_id", wanted.turn_id)
        for name, value in (("parent_turn_id", wanted.parent_id), ("replaces_turn_id", wanted.replaces_id)):
            if value:
                identifiers.require_uuid(name, value)
        if wanted.parent_id and wanted.replaces_id:
            raise InvalidRequest("Give parent_turn_id or replaces_turn_id, not both.")
        if len(wanted.key) > 255:
            raise InvalidRequest("The Idempotency-Key may have 255 characters at most.")
        if wanted.key and len(wanted.digest) != 32:
            raise InvalidRequest("With an Idempotency-Key, request_digest must be the SHA-256 of the request.")
        if wanted.budget < 0:
            raise InvalidRequest("history_token_budget must not be negative.")
        wanted.budget = min(wanted.budget or self._limits.history_tokens, _MAX_HISTORY_TOKENS)

    def _prepare(self, ending: Ending) -> tuple[Ending, Prepared]:
        identifiers.split_conversation_id(ending.conversation_id)
        identifiers.require_uuid("turn_id", ending.turn_id)
        question = storable(ending.question)
        if not question or len(question) > self._limits.question_chars:
            raise InvalidRequest(
                f"A question has 1 to {self._limits.question_chars} characters.",
                ErrorReason.ERROR_REASON_QUESTION_TOO_LONG if question else None,
            )
        # What a model has said is never refused: the turn must not be lost for its length.
        ending.answer.text = storable(ending.answer.text)[: self._limits.answer_chars]
        ending.question = question
        ending.failure_message = storable(ending.failure_message)[:1000]
        question_digest, answer_digest = chain.text_digest(question), chain.text_digest(ending.answer.text)
        said = ending.outcome is not Outcome.FAILURE and ending.answer.text != ""
        return ending, Prepared(
            question_digest=question_digest,
            answer_digest=answer_digest,
            digest=chain.turn_digest(ending.turn_id, ending.outcome, question_digest, answer_digest),
            title=title_of(question),
            history_tokens=estimated_tokens(question, ending.answer.text) if said else 0,
            retriable=ending.outcome is Outcome.FAILURE and is_retriable(ending.failure_reason),
        )


def storable(text: str) -> str:
    """The text without U+0000, the one character that PostgreSQL does not keep."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def estimated_tokens(question: str, answer: str) -> int:
    """Size of an exchange as history: a token for every four bytes, and what roles and parts take."""
    return (len(question.encode()) + len(answer.encode())) // 4 + 8


def title_of(question: str) -> str:
    """The first words of a question, at most 80 characters, on one line."""
    words = " ".join(question[:400].split())
    if len(words) <= _TITLE_CHARS:
        return words or "…"
    cut = words[:_TITLE_CHARS]
    return cut[: cut.rfind(" ")] + "…" if cut.rfind(" ") > _TITLE_CHARS // 2 else cut[:-1] + "…"


def key_reused() -> FocusError:
    """The Idempotency-Key belongs to another request."""
    return InvalidRequest(
        "This Idempotency-Key was used for another request; use a new one.",
        ErrorReason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
    )


def key_in_progress() -> FocusError:
    """The Idempotency-Key's request has no outcome yet."""
    return errors.Conflict(
        "The request with this Idempotency-Key is still being answered; repeat it in a moment.",
        ErrorReason.ERROR_REASON_IDEMPOTENCY_IN_PROGRESS,
        retry_after=_RETRY_SECONDS,
    )


def _refusal(status: str) -> FocusError:
    match status:
        case "reused":
            return key_reused()
        case "in_progress":
            return key_in_progress()
        case "no_turn":
            return identifiers.no_turn()
        case "full":
            return errors.Exhausted(
                "This conversation has as many turns as it may have; begin a new one.",
                ErrorReason.ERROR_REASON_LIMIT_REACHED,
                metadata={"limit": "turns"},
            )
        case _:
            return identifiers.no_conversation()
