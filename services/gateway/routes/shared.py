"""Links that let others read a conversation."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.types import ASGIApp

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import conversation_pb2
from services.gateway import models, negotiation
from services.gateway.bodies import read_query
from services.gateway.openapi import described
from services.gateway.routes.entrance import Entrance
from services.gateway.routes.ids import conversation_id_of, secret_of, share_id_of
from services.gateway.session import Session
from services.gateway.views import Json, NoContent, conversation_view, share_view, turn_view

_SHARES = "/v1/conversations/{conversation_id}/shares"
_NOT_FOUND = ErrorReason.ERROR_REASON_CONVERSATION_NOT_FOUND
_NO_SHARE = ErrorReason.ERROR_REASON_SHARE_NOT_FOUND


def add_shared_routes(router: APIRouter, entrance: Entrance, session: Session) -> None:
    stub = session.conversations

    @router.post(
        _SHARES,
        tags=["sharing"],
        **described(
            "Make a link to what a conversation holds now",
            answers=models.ShareView,
            fails=(_NOT_FOUND, ErrorReason.ERROR_REASON_LIMIT_REACHED),
            status=201,
        ),
    )
    async def create(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        await entrance.bodies.none(request)
        asked = conversation_pb2.CreateShareRequest(
            principal=principal.message(), conversation_id=conversation_id_of(request)
        )
        made = await session.call(stub.CreateShare, asked)
        view = {**share_view(made.share), "secret": made.secret, "path": f"/v1/shared/{made.secret}"}
        return Json(view, status=201)

    @router.get(
        _SHARES,
        tags=["sharing"],
        **described("List the links to a conversation", answers=models.SharesView, fails=(_NOT_FOUND,)),
    )
    async def page(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        asked = conversation_pb2.ListSharesRequest(
            principal=principal.message(), conversation_id=conversation_id_of(request)
        )
        found = await session.call(stub.ListShares, asked)
        return Json({"shares": [share_view(share) for share in found.shares]})

    @router.delete(
        "/v1/shares/{share_id}",
        tags=["sharing"],
        **described("Withdraw a link", answers=None, fails=(_NO_SHARE,), status=204),
    )
    async def withdraw(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        await entrance.bodies.none(request)
        asked = conversation_pb2.WithdrawShareRequest(principal=principal.message(), share_id=share_id_of(request))
        await session.call(stub.WithdrawShare, asked)
        return NoContent()

    @router.get(
        "/v1/shared/{secret}",
        tags=["sharing"],
        **described(
            "Read by a link; nobody has to be signed in",
            answers=models.ConversationWithTurnsView,
            query=models.PageQuery,
            fails=(_NO_SHARE, ErrorReason.ERROR_REASON_CURSOR_INVALID, ErrorReason.ERROR_REASON_STORE_UNAVAILABLE),
            secured=False,
        ),
    )
    async def read(request: Request) -> ASGIApp:
        negotiation.require(request)
        query = read_query(request, models.PageQuery)
        asked = conversation_pb2.GetSharedConversationRequest(
            secret=secret_of(request), page_size=query.limit, page_token=query.cursor
        )
        found = await session.call(stub.GetSharedConversation, asked)
        return Json(
            {
                **conversation_view(found.conversation),
                "turns": [turn_view(turn) for turn in found.turns],
                "next_cursor": found.next_page_token or None,
            },
            headers=[(b"x-robots-tag", b"noindex")],
        )
