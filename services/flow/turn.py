"""A conversation's turn: the design's steps 2 to 5."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from focus.chat.v1 import chat_pb2
from focus.session.v1 import turn_pb2
from services.common import logs
from services.common.errors import FocusError, Internal
from services.flow.answering import LookUp, generate, keep
from services.flow.clients import Clients
from services.flow.deadline import Deadline
from services.flow.flight import Course, Stopped
from services.flow.holder import Holder
from services.flow.lease import commit, take_lease
from services.flow.question import CacheUse, Committed, Question

log = logs.get(__name__)

_DEFECT = "Something went wrong inside the service; the request id finds it in the logs."


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One question in a conversation."""

    principal: chat_pb2.Principal
    conversation_id: str
    # UUID, made by the edge: a repeat with the same one is the same turn.
    turn_id: str
    question: Question
    idempotency_key: str = ""
    # SHA-256 of the request; needed with a key.
    request_digest: bytes = b""
    # A guess that there is no history yet: the cache is asked beside BeginTurn, not after it.
    probably_first: bool = False


@dataclass(slots=True)
class _Outcome:
    """What there is to commit."""

    kind: turn_pb2.Outcome.ValueType = turn_pb2.OUTCOME_ANSWER
    answer: chat_pb2.Answer = field(default_factory=chat_pb2.Answer)
    cache: CacheUse = "bypass"
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
    principal, question = request.principal, request.question
    outcome = _Outcome()
    with (
        holder.hold() as hold,
        LookUp(clients.answers, principal, question, deadline, at_once=request.probably_first) as look_up,
    ):
        # 2. The lease with the history; or a place in the queue, then the lease.
        begun = await take_lease(clients.turns, hold, _begin(request, hold.holder_id), course, deadline)
        if isinstance(begun, turn_pb2.Turn):
            return Committed(begun, "bypass", replayed=True)
        course.must_finish()
        try:
            with course.interruptible():
                # 3. Without history the answer may be there already.
                if not begun.history:
                    kept = await look_up()
                    outcome.cache = "miss"
                    if kept is not None:
                        outcome.cache, outcome.answer = "hit", kept
                # 4. Else a model's answer; its pieces go out as they come.
                if outcome.cache != "hit":
                    prompt = question.prompt(begun.history)
                    outcome.answer = await generate(clients.models, principal, prompt, course, deadline)
        except Stopped:
            outcome.kind = turn_pb2.OUTCOME_CANCELLED
            outcome.answer = chat_pb2.Answer(text=course.text, finish_reason=chat_pb2.FINISH_REASON_CANCELLED)
        except FocusError as err:
            outcome.kind, outcome.failure = turn_pb2.OUTCOME_FAILURE, err
        except Exception as err:
            log.error("a turn failed by a defect", exc_info=err)
            outcome.kind, outcome.failure = turn_pb2.OUTCOME_FAILURE, Internal(_DEFECT)
        # 5. The outcome into the conversation, beside the answer into the cache. Only then it is done.
        stored = commit(clients.turns, hold, _commit(request, begun, hold.holder_id, outcome))
        if outcome.failure is not None:
            with suppress(FocusError):  # the first failure is the one to tell
                await stored
            raise outcome.failure
        if outcome.cache == "miss" and outcome.kind == turn_pb2.OUTCOME_ANSWER:
            turn, _ = await asyncio.gather(stored, keep(clients.answers, principal, question, outcome.answer))
        else:
            turn = await stored
    return Committed(turn, outcome.cache, begun.history_cut)


def _begin(request: TurnRequest, holder_id: str) -> turn_pb2.BeginTurnRequest:
    return turn_pb2.BeginTurnRequest(
        principal=request.principal,
        conversation_id=request.conversation_id,
        holder_id=holder_id,
        turn_id=request.turn_id,
        idempotency_key=request.idempotency_key,
        request_digest=request.request_digest,
    )


def _commit(
    request: TurnRequest, begun: turn_pb2.BegunTurn, holder_id: str, outcome: _Outcome
) -> turn_pb2.CommitTurnRequest:
    return turn_pb2.CommitTurnRequest(
        principal=request.principal,
        conversation_id=request.conversation_id,
        holder_id=holder_id,
        turn_id=begun.turn_id,
        fence=begun.fence,
        question=request.question.text,
        outcome=outcome.kind,
        answer=outcome.answer,
        failure_reason=outcome.failure.reason_name if outcome.failure is not None else "",
    )
