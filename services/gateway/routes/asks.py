"""POST /v1/ask: a question that stands alone."""

from __future__ import annotations

import uuid

from fastapi import APIRouter
from starlette.requests import Request
from starlette.types import ASGIApp

from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import InvalidRequest
from services.flow.ask import AskRequest, run_ask
from services.flow.inquiry import Terms
from services.flow.question import Answered, Question, Repeatable
from services.gateway import cache_control, negotiation
from services.gateway.answers import Flights
from services.gateway.models import AnswerView, AskBody, Wishes
from services.gateway.openapi import described
from services.gateway.routes.entrance import Entrance
from services.gateway.sse import Rendered
from services.gateway.views import asked_view

ROUTE = "POST /v1/ask"

MODES = {"auto": chat_pb2.MODE_AUTO, "junior": chat_pb2.MODE_JUNIOR, "senior": chat_pb2.MODE_SENIOR}

# How a question can fail once it is understood.
ANSWERING = (
    ErrorReason.ERROR_REASON_QUESTION_TOO_LONG,
    ErrorReason.ERROR_REASON_NOT_ACCEPTABLE,
    ErrorReason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
    ErrorReason.ERROR_REASON_IDEMPOTENCY_IN_PROGRESS,
    ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED,
    ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE,
    ErrorReason.ERROR_REASON_PROVIDER_REJECTED,
    ErrorReason.ERROR_REASON_PROVIDER_STREAM_BROKEN,
    ErrorReason.ERROR_REASON_ANSWER_BLOCKED,
    ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
    ErrorReason.ERROR_REASON_NOT_CACHED,
    ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
)


class Lengths:
    """The deployment's limits on texts, in characters."""

    def __init__(self, *, question: int, system: int) -> None:
        self._question = question
        self._system = system

    def check(self, wishes: Wishes, text: str = "") -> None:
        """Raises InvalidRequest (QUESTION_TOO_LONG; INVALID_ARGUMENT for the instructions)."""
        if len(text) > self._question:
            raise InvalidRequest(
                f"The question has {len(text)} characters; at most {self._question} are taken.",
                ErrorReason.ERROR_REASON_QUESTION_TOO_LONG,
                metadata={"field": "question"},
            )
        if len(wishes.system) > self._system:
            raise InvalidRequest(
                f"system: has {len(wishes.system)} characters; at most {self._system} are taken.",
                metadata={"field": "system"},
            )


def question_of(wishes: Wishes, text: str) -> Question:
    """The question as the flow takes it; an empty text: that of the turn that is replaced."""
    return Question(text, MODES[wishes.mode], wishes.system, wishes.max_output_tokens or 0, wishes.temperature)


def add_ask_routes(router: APIRouter, entrance: Entrance, flights: Flights, lengths: Lengths, *, learn: bool) -> None:
    """With `learn` the cache may keep the texts of questions, encrypted, to know what is asked most."""

    @router.post(
        "/v1/ask",
        tags=["questions"],
        **described(
            "Ask a question that stands alone",
            answers=AnswerView,
            body=AskBody,
            fails=ANSWERING,
            events=True,
            idempotent=True,
            cached=True,
        ),
    )
    async def ask(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        key = negotiation.idempotency_key(request)
        body = await entrance.bodies.read(request, AskBody)
        lengths.check(body, body.question)
        asked = AskRequest(
            principal=principal.message(),
            ask_id=str(uuid.uuid4()) if key else "",
            question=question_of(body, body.question),
            terms=Terms(cache_control.of(request), may_learn=learn),
            route=ROUTE,
            repeatable=Repeatable(key, negotiation.digest(request, body)) if key else None,
        )
        return await flights.respond(
            request,
            lambda clients, holder, course, deadline: run_ask(clients, holder, asked, course, deadline),
            _rendered,
            durable=bool(key),
        )


def _rendered(answered: Answered) -> Rendered:
    headers = cache_control.told(answered.cache, answered.age)
    if answered.replayed:
        headers.append((b"idempotency-replayed", b"true"))
    return Rendered(asked_view(answered), headers)
