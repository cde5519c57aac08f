"""A question without a conversation: the design's steps 3 to 5."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from focus.chat.v1 import chat_pb2
from focus.session.v1 import turn_pb2
from services.common import logs
from services.common.errors import Cancelled, FocusError, reason_from_name
from services.flow.clients import Clients, Turns
from services.flow.deadline import Deadline
from services.flow.flight import Course, Stopped
from services.flow.generating import generate
from services.flow.holder import Holder
from services.flow.inquiry import Inquiry, Terms
from services.flow.joint import Found
from services.flow.lease import BEGIN_SECONDS, InDoubt, begun, commit
from services.flow.question import Answered, CacheUse, Question, Repeatable

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class AskRequest:
    """One stateless question. With `repeatable` its outcome is kept for repeats."""

    principal: chat_pb2.Principal
    # UUID, made by the edge.
    ask_id: str
    question: Question
    # What an Idempotency-Key belongs to beside the principal, such as "POST /v1/ask".
    route: str = ""
    repeatable: Repeatable | None = None
    terms: Terms = field(default_factory=Terms)


async def run_ask(
    clients: Clients, holder: Holder, request: AskRequest, course: Course, deadline: Deadline
) -> Answered:
    """Answers from the cache (one call) or by a model (three). Ends when the client leaves, unless others follow.

    With an Idempotency-Key the outcome is saved around that, and the course should be
    durable: then the answer is carried through and saved though the client leaves.
    Raises what the services raised, DeadlineExceeded, and Cancelled after a stop.
    """
    if request.repeatable is None:
        return await _answer(clients, request, course, deadline)
    return await _answer_once(clients, holder, request, request.repeatable, course, deadline)


async def _answer(clients: Clients, request: AskRequest, course: Course, deadline: Deadline) -> Answered:
    principal, question = request.principal, request.question
    with Inquiry(clients, principal, question, request.terms, course, deadline) as inquiry:
        try:
            with course.interruptible():
                # 3. An answer that is there already, or that another is just generating.
                found = await inquiry.find()
                if found is None:
                    # 4. Else a model's; its pieces go out as they come.
                    started = time.monotonic()
                    try:
                        answer = await generate(clients.models, principal, question.prompt(), course, deadline)
                    except FocusError as err:
                        found = inquiry.instead_of(err)
        except Stopped:
            raise Cancelled("The question was withdrawn before its answer was complete.") from None
        if found is None:
            # 5. Kept for the next one who asks.
            entry = await inquiry.keep(answer, time.monotonic() - started)
            found = Found(answer, "miss", entry=entry)
    return Answered(found.answer, found.cache, found.age, found.entry)


async def _answer_once(
    clients: Clients,
    holder: Holder,
    request: AskRequest,
    repeatable: Repeatable,
    course: Course,
    deadline: Deadline,
) -> Answered:
    """Reserves the key, answers, saves the outcome under the key; a repeat gets what was saved."""
    async with holder.hold() as holder_id:
        try:
            begin = _begin(request, repeatable, holder_id)
            response = await begun(clients.turns.begin_ask(begin, timeout=deadline.remaining(BEGIN_SECONDS)))
            if response.WhichOneof("result") == "replayed":
                return _replayed(response.replayed)
            course.must_finish()
            try:
                answered = await _answer(clients, request, course, deadline)
            except Cancelled:
                _abandon(clients.turns, holder, holder_id, request)
                raise
            except FocusError as err:
                failure = turn_pb2.AskOutcome(
                    outcome=turn_pb2.OUTCOME_FAILURE, failure_reason=err.reason_name, failure_message=err.message
                )
                try:
                    await _commit(clients.turns, request, failure)
                except InDoubt:
                    raise InDoubt(err) from None
                except FocusError as unsaved:
                    log.info("a failed ask was not saved", reason=unsaved.reason_name)
                raise
            outcome = turn_pb2.AskOutcome(
                outcome=turn_pb2.OUTCOME_ANSWER, answer=answered.answer, extra=_extra(answered)
            )
            await _commit(clients.turns, request, outcome)
        except InDoubt as doubt:
            _abandon(clients.turns, holder, holder_id, request)
            raise doubt.failure from None
        else:
            return answered


def _begin(request: AskRequest, repeatable: Repeatable, holder_id: str) -> turn_pb2.BeginAskRequest:
    return turn_pb2.BeginAskRequest(
        principal=request.principal,
        holder_id=holder_id,
        ask_id=request.ask_id,
        route=request.route,
        idempotency_key=repeatable.key,
        request_digest=repeatable.digest,
    )


async def _commit(turns: Turns, request: AskRequest, outcome: turn_pb2.AskOutcome) -> None:
    saved = turn_pb2.CommitAskRequest(principal=request.principal, ask_id=request.ask_id, outcome=outcome)
    await commit(lambda timeout: turns.commit_ask(saved, timeout=timeout))


def _abandon(turns: Turns, holder: Holder, holder_id: str, request: AskRequest) -> None:
    given_up = turn_pb2.AbandonAskRequest(principal=request.principal, ask_id=request.ask_id)
    holder.abandon(holder_id, lambda timeout: turns.abandon_ask(given_up, timeout=timeout))


def _replayed(outcome: turn_pb2.AskOutcome) -> Answered:
    if outcome.outcome == turn_pb2.OUTCOME_FAILURE:
        raise FocusError(
            outcome.failure_message, reason_from_name(outcome.failure_reason), metadata={"replayed": "true"}
        )
    use, _, entry = outcome.extra.partition(b" ")
    return Answered(outcome.answer, _USES.get(use, "miss"), entry=entry, replayed=True)


def _extra(answered: Answered) -> bytes:
    """What a repeat is told beside the answer."""
    return answered.cache.encode() + b" " + answered.entry


_USES: dict[bytes, CacheUse] = {b"hit": "hit", b"miss": "miss", b"stale": "stale", b"coalesced": "coalesced"}
