"""Turns of a conversation: ask, ask differently, answer anew, cancel, erase."""

from __future__ import annotations

import uuid
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.types import ASGIApp

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import conversation_pb2, turn_pb2
from services.flow.inquiry import Terms
from services.flow.question import Committed, Repeatable
from services.flow.turn import TurnRequest, run_turn
from services.gateway import cache_control, cancelling, negotiation
from services.gateway.answers import Flights
from services.gateway.models import CancelView, EditBody, RegenerateBody, TurnBody, TurnView, Wishes
from services.gateway.openapi import described
from services.gateway.routes.asks import ANSWERING, Lengths, question_of
from services.gateway.routes.entrance import Entrance
from services.gateway.routes.ids import conversation_id_of, turn_id_of
from services.gateway.routes.newborn import Newborn
from services.gateway.session import Session
from services.gateway.sse import Rendered
from services.gateway.tokens import Principal
from services.gateway.views import Json, committed_view, turn_view

_TURN = "/v1/conversations/{conversation_id}/turns/{turn_id}"

_FAILS = (
    ErrorReason.ERROR_REASON_CONVERSATION_NOT_FOUND,
    ErrorReason.ERROR_REASON_LIMIT_REACHED,
    ErrorReason.ERROR_REASON_LEASE_LOST,
    ErrorReason.ERROR_REASON_CONVERSATION_BUSY,
    ErrorReason.ERROR_REASON_QUEUE_FULL,
    *ANSWERING,
)
_BRANCH_FAILS = (ErrorReason.ERROR_REASON_TURN_NOT_FOUND, *_FAILS)


def add_turn_routes(
    router: APIRouter, entrance: Entrance, flights: Flights, session: Session, lengths: Lengths, newborn: Newborn
) -> None:
    async def answer(
        request: Request, principal: Principal, body: Wishes, text: str, *, parent: str = "", replaces: str = ""
    ) -> ASGIApp:
        conversation_id = conversation_id_of(request)
        key = negotiation.idempotency_key(request)
        lengths.check(body, text)
        turn_id = str(uuid.uuid4())
        asked = TurnRequest(
            principal=principal.message(),
            conversation_id=conversation_id,
            turn_id=turn_id,
            question=question_of(body, text),
            terms=Terms(cache_control.of(request)),
            repeatable=Repeatable(key, negotiation.digest(request, body)) if key else None,
            parent_turn_id=parent,
            replaces_turn_id=replaces,
            probably_first=newborn.first_turn_of(conversation_id),
        )
        return await flights.respond(
            request,
            lambda clients, holder, course, deadline: run_turn(clients, holder, asked, course, deadline),
            partial(_rendered, conversation_id),
            durable=True,
            headers=[(b"x-turn-id", turn_id.encode())],
            key=(principal.tenant_id, principal.person_id, conversation_id, turn_id),
        )

    @router.post(
        "/v1/conversations/{conversation_id}/turns",
        tags=["turns"],
        **described(
            "Ask the next question",
            answers=TurnView,
            body=TurnBody,
            fails=_FAILS,
            events=True,
            idempotent=True,
            cached=True,
        ),
    )
    async def ask(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        body = await entrance.bodies.read(request, TurnBody)
        return await answer(request, principal, body, body.question, parent=body.parent_turn_id or "")

    @router.post(
        _TURN + "/regenerate",
        tags=["turns"],
        **described(
            "Answer a turn's question anew, as a branch beside it",
            answers=TurnView,
            body=RegenerateBody,
            fails=_BRANCH_FAILS,
            events=True,
            idempotent=True,
            cached=True,
        ),
    )
    async def regenerate(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        body = await entrance.bodies.read(request, RegenerateBody, optional=True)
        return await answer(request, principal, body, "", replaces=turn_id_of(request))

    @router.post(
        _TURN + "/edit",
        tags=["turns"],
        **described(
            "Ask another question in a turn's place, as a branch beside it",
            answers=TurnView,
            body=EditBody,
            fails=_BRANCH_FAILS,
            events=True,
            idempotent=True,
            cached=True,
        ),
    )
    async def edit(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        body = await entrance.bodies.read(request, EditBody)
        return await answer(request, principal, body, body.question, replaces=turn_id_of(request))

    @router.post(
        _TURN + "/cancel",
        tags=["turns"],
        **described(
            "Stop a turn that is being answered, by whichever server; its text so far is stored",
            answers=CancelView,
            fails=(ErrorReason.ERROR_REASON_TURN_NOT_FOUND,),
            accepted="It is being stopped, but has not ended yet; send the same again to learn how it ended",
        ),
    )
    async def cancel(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        await entrance.bodies.none(request)
        conversation_id, turn_id = conversation_id_of(request), turn_id_of(request)
        flight = flights.turn((principal.tenant_id, principal.person_id, conversation_id, turn_id))
        if flight is not None:
            outcome = await cancelling.here(flight)
        else:
            asked = turn_pb2.CancelTurnRequest(
                principal=principal.message(), conversation_id=conversation_id, turn_id=turn_id
            )
            outcome = await cancelling.elsewhere(session, asked)
        status = 202 if outcome == "stopping" else 200
        return Json({"conversation_id": conversation_id, "turn_id": turn_id, "outcome": outcome}, status=status)

    @router.post(
        _TURN + "/erase",
        tags=["turns"],
        **described(
            "Destroy a turn's texts; the turn and the hash chain stay",
            answers=TurnView,
            fails=(
                ErrorReason.ERROR_REASON_CONVERSATION_NOT_FOUND,
                ErrorReason.ERROR_REASON_TURN_NOT_FOUND,
            ),
        ),
    )
    async def erase(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        await entrance.bodies.none(request)
        conversation_id = conversation_id_of(request)
        asked = conversation_pb2.EraseTurnRequest(
            principal=principal.message(), conversation_id=conversation_id, turn_id=turn_id_of(request)
        )
        response = await session.call(session.conversations.EraseTurn, asked)
        return Json({"conversation_id": conversation_id, **turn_view(response.turn)})


def _rendered(conversation_id: str, committed: Committed) -> Rendered:
    headers = cache_control.told(committed.cache, committed.age)
    if committed.replayed:
        headers.append((b"idempotency-replayed", b"true"))
    return Rendered(committed_view(conversation_id, committed), headers)
