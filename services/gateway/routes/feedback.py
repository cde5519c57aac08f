"""POST /v1/feedback: what somebody thinks of an answer that is kept for others."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode

import grpc
from fastapi import APIRouter
from starlette.requests import Request
from starlette.types import ASGIApp

from focus.cache.v1 import cache_pb2, cache_pb2_grpc
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import DeadlineExceeded, InvalidRequest, Unavailable
from services.common.rpc import client
from services.gateway import negotiation
from services.gateway.models import FeedbackBody, FeedbackView
from services.gateway.openapi import described
from services.gateway.routes.entrance import Entrance
from services.gateway.views import Json

_VERDICTS = {"up": cache_pb2.VERDICT_UP, "down": cache_pb2.VERDICT_DOWN}


class Thumbs:
    """The cache service's Feedback; `timeout` in seconds."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float) -> None:
        self._stub = cache_pb2_grpc.CacheServiceStub(channel)
        self._timeout = timeout

    async def give(self, principal: chat_pb2.Principal, entry: bytes, verdict: cache_pb2.Verdict.ValueType) -> bool:
        """False when the answer was not stored any more. Raises InvalidRequest, Unavailable: nothing was changed."""
        request = cache_pb2.FeedbackRequest(principal=principal, entry=entry, verdict=verdict)
        try:
            return (await client.unary(self._stub.Feedback, request, timeout=self._timeout)).found
        except InvalidRequest:
            raise _unknown() from None
        except DeadlineExceeded:
            raise Unavailable(
                "The cache does not answer right now; send the same again in a moment.", retry_after=1.0
            ) from None


def add_feedback_routes(router: APIRouter, entrance: Entrance, thumbs: Thumbs) -> None:
    @router.post(
        "/v1/feedback",
        tags=["questions"],
        **described(
            "Say whether an answer is good; a thumbs-down takes it from the cache for everybody",
            answers=FeedbackView,
            body=FeedbackBody,
            fails=(ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE),
        ),
    )
    async def feedback(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        body = await entrance.bodies.read(request, FeedbackBody)
        found = await thumbs.give(principal.message(), _entry(body.answer_id), _VERDICTS[body.verdict])
        return Json({"found": found})


def _entry(answer_id: str) -> bytes:
    try:
        return urlsafe_b64decode(answer_id + "=" * (-len(answer_id) % 4))
    except binascii.Error:
        raise _unknown() from None


def _unknown() -> InvalidRequest:
    return InvalidRequest(
        "answer_id: send the one that came with an answer to you or your tenant.", metadata={"field": "answer_id"}
    )
