"""A conversation's turn: the design's steps 2 to 5."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

from focus.chat.v1 import chat_pb2
from focus.session.v1 import turn_pb2
from services.common import logs
from services.common.errors import FocusError, Internal, InvalidRequest, reason_from_name
from services.flow.clients import Clients, Turns
from services.flow.deadline import Deadline
from services.flow.flight import Course, Stopped
from services.flow.generating import Withheld, generate
from services.flow.holder import Holder
from services.flow.inquiry import Inquiry, Terms
from services.flow.joint import Found
from services.flow.lease import InDoubt, commit, take_lease
from services.flow.question import Committed, Question, Repeatable

log = logs.get(__name__)

_DEFECT = "Something went wrong inside the service; the request id finds it in the logs."


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One question in a conversation."""

    principal: chat_pb2.Principal
    conversation_id: str
    # UUID, made by the edge: a repeat with the same one is the same turn.
    turn_id: str
    # With an empty text the question of the turn that is replaced is asked again.
    question: Question
    repeatable: Repeatable | None = None
    # The turn to follow; empty: the newest.
    parent_turn_id: str = ""
    # The turn beside which this one becomes a branch.
    replaces_turn_id: str = ""
    # A guess that there is no history yet: the cache is asked beside BeginTurn, not after it.
    probably_first: bool = False
    terms: Terms = field(default_factory=Terms)


@dataclass(slots=True)
class _Outcome:
    """What there is to commit."""

    kind: turn_pb2.Outcome.ValueType = turn_pb2.OUTCOME_ANSWER
    answer: chat_pb2.Answer = field(default_factory=chat_pb2.Answer)
    # Of the cache, if it had an answer.
    found: Found | None = None
    # Seconds that generating took.
    took: float = 0.0
    failure: FocusError | None = None


async def run_turn(
    clients: Clients, holder: Holder, request: TurnRequest, course: Course, deadline: Deadline
) -> Committed:
    """Answers a question in the order of its conversation and returns only what is stored.

    With history: begin, generate, commit. A first turn also asks and fills the cache,
    beside the begin and the commit. Once the lease is there the turn is carried through
    though the client leaves; a stop ends the model's call and commits `cancelled` with
    the text so far. A failure of the model is committed and then raised.

    Raises FocusErrors: what the services raised (see `take_lease` and `commit`).
    """
    async with holder.hold() as holder_id:
        try:
            return await _run(clients, holder_id, request, course, deadline)
        except InDoubt as doubt:
            _abandon(clients.turns, holder, holder_id, request)
            raise doubt.failure from None


async def _run(clients: Clients, holder_id: str, request: TurnRequest, course: Course, deadline: Deadline) -> Committed:
    principal, question, terms = request.principal, request.question, request.terms
    outcome = _Outcome()
    with Inquiry(clients, principal, question, terms, course, deadline, at_once=request.probably_first) as inquiry:
        # 2. The lease with the history; or a place in the queue, then the lease.
        begun = await take_lease(clients.turns, _begin(request, holder_id), course, deadline)
        if isinstance(begun, turn_pb2.Turn):
            return _replayed(begun)
        course.must_finish()
        if not question.text:
            question = _asked_again(question, begun)
        first = not begun.history and not request.replaces_turn_id
        try:
            with course.interruptible():
                # 3. Without history the answer may be there already, or another is just generating it.
                if first:
                    outcome.found = await inquiry.find()
                else:
                    inquiry.bypass()
                # 4. Else a model's answer; its pieces go out as they come.
                if outcome.found is None:
                    started = time.monotonic()
                    prompt = question.prompt(begun.history)
                    try:
                        outcome.answer = await generate(clients.models, principal, prompt, course, deadline)
                    except FocusError as err:
                        outcome.found = inquiry.instead_of(err)
                    outcome.took = time.monotonic() - started
        except Stopped:
            outcome.kind = turn_pb2.OUTCOME_CANCELLED
            outcome.answer = chat_pb2.Answer(text=course.text, finish_reason=chat_pb2.FINISH_REASON_CANCELLED)
        except FocusError as err:
            outcome.kind, outcome.failure = turn_pb2.OUTCOME_FAILURE, err
            outcome.answer = err.spent if isinstance(err, Withheld) else outcome.answer
        except Exception as err:
            log.error("a turn failed by a defect", exc_info=err)
            outcome.kind, outcome.failure = turn_pb2.OUTCOME_FAILURE, Internal(_DEFECT)
        if outcome.found is not None:
            outcome.answer = outcome.found.answer
        # 5. The outcome into the conversation, beside the answer into the cache. Only then it is done.
        ending = _commit(request, question, begun, holder_id, outcome)
        stored = commit(lambda timeout: clients.turns.commit(ending, timeout=timeout))
        if outcome.failure is not None:
            inquiry.give_up(outcome.failure)  # at once: others wait for it
            try:
                await stored
            except InDoubt:
                raise InDoubt(outcome.failure) from None
            except FocusError as err:
                log.info("a failed turn was not stored", reason=err.reason_name)
            raise outcome.failure
        entry = b""
        if outcome.kind == turn_pb2.OUTCOME_ANSWER and first and outcome.found is None:
            response, entry = await asyncio.gather(stored, inquiry.keep(outcome.answer, outcome.took))
        else:
            inquiry.give_up()
            response = await stored
    found = outcome.found or Found(outcome.answer, "miss" if first else "bypass", entry=entry)
    return Committed(response.turn, found.cache, found.age, found.entry, begun.history_cut)


def _begin(request: TurnRequest, holder_id: str) -> turn_pb2.BeginTurnRequest:
    begin = turn_pb2.BeginTurnRequest(
        principal=request.principal,
        conversation_id=request.conversation_id,
        holder_id=holder_id,
        turn_id=request.turn_id,
        parent_turn_id=request.parent_turn_id,
        replaces_turn_id=request.replaces_turn_id,
    )
    if request.repeatable is not None:
        begin.idempotency_key = request.repeatable.key
        begin.request_digest = request.repeatable.digest
    return begin


def _asked_again(question: Question, begun: turn_pb2.BegunTurn) -> Question:
    if not begun.replaced_question:
        erased = InvalidRequest("The question of that turn was erased; it cannot be answered again.")
        raise InDoubt(erased)  # the lease is ours and must be given up
    return replace(question, text=begun.replaced_question)


def _commit(
    request: TurnRequest, question: Question, begun: turn_pb2.BegunTurn, holder_id: str, outcome: _Outcome
) -> turn_pb2.CommitTurnRequest:
    failure = outcome.failure
    return turn_pb2.CommitTurnRequest(
        principal=request.principal,
        conversation_id=request.conversation_id,
        holder_id=holder_id,
        turn_id=begun.turn_id,
        fence=begun.fence,
        question=question.text,
        outcome=outcome.kind,
        answer=outcome.answer,
        failure_reason=failure.reason_name if failure is not None else "",
        failure_message=failure.message if failure is not None else "",
    )


def _abandon(turns: Turns, holder: Holder, holder_id: str, request: TurnRequest) -> None:
    given_up = turn_pb2.AbandonTurnRequest(
        principal=request.principal,
        conversation_id=request.conversation_id,
        holder_id=holder_id,
        turn_id=request.turn_id,
    )
    holder.abandon(holder_id, lambda timeout: turns.abandon(given_up, timeout=timeout))


def _replayed(turn: turn_pb2.Turn) -> Committed:
    if turn.outcome == turn_pb2.OUTCOME_FAILURE:
        raise FocusError(turn.failure_message, reason_from_name(turn.failure_reason), metadata={"replayed": "true"})
    return Committed(turn, "bypass", replayed=True)
