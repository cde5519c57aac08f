"""Protobuf to the domain and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from focus.cache.v1 import cache_pb2 as pb
from focus.cache.v1.cache_pb2_grpc import CacheServiceServicer
from services.cache.answers import Answers, Hit, Looked
from services.cache.flights import Flights
from services.cache.leases import Leases
from services.cache.operations import Operations
from services.cache.requests import asked_of, made_of, terms_of
from services.cache.storage import RENEW_EVERY_MS
from services.cache.tokens import FillToken, flight_of, flight_token

Call = grpc.aio.ServicerContext[Any, Any]


class CacheServicer(CacheServiceServicer):
    """`max_question_bytes` bounds question and instruction together."""

    def __init__(
        self, answers: Answers, leases: Leases, flights: Flights, operations: Operations, max_question_bytes: int
    ) -> None:
        self._answers = answers
        self._leases = leases
        self._flights = flights
        self._operations = operations
        self._max_bytes = max_question_bytes

    async def Lookup(self, request: pb.LookupRequest, _call: Call) -> pb.LookupResponse:
        asked = asked_of(request.principal, request.question, request.scope, self._max_bytes)
        looked = await self._answers.lookup(asked, terms_of(request))
        if request.may_learn:
            self._operations.learn(asked, request)
        return _lookup_response(looked)

    async def Store(self, request: pb.StoreRequest, _call: Call) -> pb.StoreResponse:
        asked = asked_of(request.principal, request.question, request.scope, self._max_bytes)
        kept = await self._answers.keep(asked, request.answer, made_of(request))
        stored = kept.reason == pb.NotStored.NOT_STORED_UNSPECIFIED
        return pb.StoreResponse(stored=stored, reason=kept.reason, entry=kept.token)

    async def Renew(self, request: pb.RenewRequest, _call: Call) -> pb.RenewResponse:
        return pb.RenewResponse(renewed=await self._leases.renew(request.renewals))

    async def Release(self, request: pb.ReleaseRequest, _call: Call) -> pb.ReleaseResponse:
        await self._leases.release(request.fills)
        return pb.ReleaseResponse()

    async def Follow(self, request: pb.FollowRequest, _call: Call) -> AsyncIterator[pb.FollowResponse]:
        key, holder = flight_of(request.token)
        messages = self._flights.follow(key, holder, request.principal.tenant_id)
        try:
            async for message in messages:
                yield message
        finally:
            await messages.aclose()

    async def Feedback(self, request: pb.FeedbackRequest, _call: Call) -> pb.FeedbackResponse:
        found = await self._operations.feedback(request.principal.tenant_id, request.entry, request.verdict)
        return pb.FeedbackResponse(found=found)

    async def Purge(self, request: pb.PurgeRequest, _call: Call) -> pb.PurgeResponse:
        await self._operations.purge(request)
        return pb.PurgeResponse()

    async def PutPublic(self, request: pb.PutPublicRequest, _call: Call) -> pb.PutPublicResponse:
        return pb.PutPublicResponse(entry=await self._operations.put_public(request, self._max_bytes))

    async def ListPopular(self, request: pb.ListPopularRequest, _call: Call) -> pb.ListPopularResponse:
        return pb.ListPopularResponse(questions=await self._operations.popular(list(request.tenant_ids), request.limit))


def _lookup_response(looked: Looked) -> pb.LookupResponse:
    response = pb.LookupResponse()
    if looked.hit is not None:
        _fill_hit(response.hit, looked.hit)
    elif looked.flight is not None:
        response.following.token = flight_token(*looked.flight)
    else:
        response.miss.SetInParent()
        if looked.fill is not None:
            _fill_fill(response.miss.fill, looked.fill)
        if looked.fallback is not None:
            _fill_hit(response.miss.stale_if_error, looked.fallback)
    return response


def _fill_hit(message: pb.LookupResponse.Hit, hit: Hit) -> None:
    message.answer.CopyFrom(hit.entry.answer)
    message.stored_at.FromMilliseconds(hit.entry.stored_at_ms)
    message.stale = hit.stale
    message.entry = hit.token
    message.origin = hit.entry.origin
    if hit.refresh is not None:
        _fill_fill(message.refresh, hit.refresh)


def _fill_fill(message: pb.Fill, fill: FillToken) -> None:
    message.token = fill.encode()
    message.leased = fill.leased
    message.renew_every_ms = RENEW_EVERY_MS if fill.leased else 0
