"""Conversations: make, read, list, find, rename, delete, restore, export."""

from __future__ import annotations

from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import conversation_pb2
from services.common.rpc import client
from services.gateway import models, negotiation
from services.gateway.bodies import read_query
from services.gateway.openapi import described
from services.gateway.routes.entrance import Entrance
from services.gateway.routes.ids import conversation_id_of
from services.gateway.routes.newborn import Newborn
from services.gateway.session import Session
from services.gateway.views import Json, NoContent, conversation_view, found_view, time_view, turn_view

_ONE = "/v1/conversations/{conversation_id}"
_NOT_FOUND = ErrorReason.ERROR_REASON_CONVERSATION_NOT_FOUND
_CURSOR = ErrorReason.ERROR_REASON_CURSOR_INVALID

_EXPORT_SECONDS = 60.0
_FORMATS = {
    "json": (conversation_pb2.EXPORT_FORMAT_JSON, "application/json", "json"),
    "markdown": (conversation_pb2.EXPORT_FORMAT_MARKDOWN, "text/markdown", "md"),
}


def add_conversation_routes(router: APIRouter, entrance: Entrance, session: Session, newborn: Newborn) -> None:
    stub = session.conversations

    @router.post(
        "/v1/conversations",
        tags=["conversations"],
        **described(
            "Begin a conversation",
            answers=models.ConversationView,
            body=models.CreateConversationBody,
            fails=(ErrorReason.ERROR_REASON_LIMIT_REACHED,),
            status=201,
        ),
    )
    async def create(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        body = await entrance.bodies.read(request, models.CreateConversationBody, optional=True)
        asked = conversation_pb2.CreateConversationRequest(principal=principal.message(), title=body.title)
        made = (await session.call(stub.CreateConversation, asked)).conversation
        newborn.add(made.conversation_id)
        location = f"/v1/conversations/{made.conversation_id}".encode()
        return Json(conversation_view(made), status=201, headers=[(b"location", location)])

    @router.get(
        "/v1/conversations",
        tags=["conversations"],
        **described(
            "List one's conversations, the newest activity first",
            answers=models.ConversationsView,
            query=models.PageQuery,
            fails=(_CURSOR,),
        ),
    )
    async def page(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        query = read_query(request, models.PageQuery)
        asked = conversation_pb2.ListConversationsRequest(
            principal=principal.message(), page_size=query.limit, page_token=query.cursor
        )
        found = await session.call(stub.ListConversations, asked)
        return Json(
            {
                "conversations": [conversation_view(one) for one in found.conversations],
                "next_cursor": found.next_page_token or None,
            }
        )

    @router.get(
        "/v1/conversations/search",
        tags=["conversations"],
        **described(
            "Find turns of one's conversations by their words",
            answers=models.SearchView,
            query=models.SearchQuery,
            fails=(_CURSOR,),
        ),
    )
    async def search(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        query = read_query(request, models.SearchQuery)
        asked = conversation_pb2.SearchTurnsRequest(
            principal=principal.message(), query=query.q, page_size=query.limit, page_token=query.cursor
        )
        found = await session.call(stub.SearchTurns, asked)
        return Json({"found": [found_view(one) for one in found.found], "next_cursor": found.next_page_token or None})

    @router.get(
        _ONE,
        tags=["conversations"],
        **described(
            "Read a conversation with a page of its turns, oldest first",
            answers=models.ConversationWithTurnsView,
            query=models.PageQuery,
            fails=(_NOT_FOUND, _CURSOR),
        ),
    )
    async def read(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        query = read_query(request, models.PageQuery)
        asked = conversation_pb2.GetConversationRequest(
            principal=principal.message(),
            conversation_id=conversation_id_of(request),
            page_size=query.limit,
            page_token=query.cursor,
        )
        found = await session.call(stub.GetConversation, asked)
        return Json(
            {
                **conversation_view(found.conversation),
                "turns": [turn_view(turn) for turn in found.turns],
                "next_cursor": found.next_page_token or None,
            }
        )

    @router.patch(
        _ONE,
        tags=["conversations"],
        **described(
            "Rename a conversation", answers=models.ConversationView, body=models.RenameBody, fails=(_NOT_FOUND,)
        ),
    )
    async def rename(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        body = await entrance.bodies.read(request, models.RenameBody)
        asked = conversation_pb2.RenameConversationRequest(
            principal=principal.message(), conversation_id=conversation_id_of(request), title=body.title
        )
        return Json(conversation_view((await session.call(stub.RenameConversation, asked)).conversation))

    @router.delete(
        _ONE,
        tags=["conversations"],
        **described(
            "Delete a conversation; for a while it can be restored", answers=models.DeletedView, fails=(_NOT_FOUND,)
        ),
    )
    async def delete(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        await entrance.bodies.none(request)
        asked = conversation_pb2.DeleteConversationRequest(
            principal=principal.message(), conversation_id=conversation_id_of(request)
        )
        response = await session.call(stub.DeleteConversation, asked)
        return Json({"restorable_until": time_view(response.restorable_until)})

    @router.post(
        _ONE + "/restore",
        tags=["conversations"],
        **described("Undo a deletion", answers=models.ConversationView, fails=(_NOT_FOUND,)),
    )
    async def restore(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        await entrance.bodies.none(request)
        asked = conversation_pb2.RestoreConversationRequest(
            principal=principal.message(), conversation_id=conversation_id_of(request)
        )
        return Json(conversation_view((await session.call(stub.RestoreConversation, asked)).conversation))

    @router.get(
        _ONE + "/export",
        tags=["conversations"],
        **described(
            "Export a conversation as JSON (hashes included) or Markdown",
            answers=None,
            query=models.ExportQuery,
            fails=(_NOT_FOUND, ErrorReason.ERROR_REASON_NOT_ACCEPTABLE),
        ),
    )
    async def export(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        query = read_query(request, models.ExportQuery)
        _, media_type, _ = _FORMATS[query.format]
        negotiation.require(request, media_type)
        asked = conversation_pb2.ExportConversationRequest(
            principal=principal.message(),
            conversation_id=conversation_id_of(request),
            format=_FORMATS[query.format][0],
        )
        return _Export(session, asked, query.format)

    @router.put(
        "/v1/retention",
        tags=["conversations"],
        **described(
            "Say how long the tenant's conversations live without activity",
            answers=None,
            body=models.RetentionBody,
            fails=(ErrorReason.ERROR_REASON_PERMISSION_DENIED,),
            status=204,
        ),
    )
    async def retention(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        body = await entrance.bodies.read(request, models.RetentionBody)
        asked = conversation_pb2.SetRetentionRequest(principal=principal.message(), days=body.days)
        await session.call(stub.SetRetention, asked)
        return NoContent()


class _Export:
    """The document as it comes; a failure before its first piece is a problem."""

    def __init__(self, session: Session, asked: conversation_pb2.ExportConversationRequest, format: str) -> None:  # noqa: A002
        self._session = session
        self._asked = asked
        _, self._media_type, self._suffix = _FORMATS[format]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = f'attachment; filename="{self._asked.conversation_id}.{self._suffix}"'
        headers = [
            (b"content-type", self._media_type.encode() + b"; charset=utf-8"),
            (b"content-disposition", name.encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        started = False
        call = self._session.conversations.ExportConversation
        async with aclosing(client.stream(call, self._asked, timeout=_EXPORT_SECONDS)) as pieces:
            async for piece in pieces:
                if not started:
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    started = True
                await send({"type": "http.response.body", "body": piece.chunk, "more_body": True})
        if not started:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
