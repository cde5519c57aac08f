"""Protobuf to the domain and back."""

from __future__ import annotations

from typing import Any

import grpc

from focus.cache.v1.cache_pb2 import (
    LookupRequest,
    LookupResponse,
    Question,
    StoreRequest,
    StoreResponse,
)
from focus.cache.v1.cache_pb2_grpc import CacheServiceServicer
from focus.chat.v1.chat_pb2 import Mode, Principal
from services.cache.answers import Answers
from services.cache.keys import Asked, Scope

Call = grpc.aio.ServicerContext[Any, Any]


class CacheServicer(CacheServiceServicer):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def Lookup(self, request: LookupRequest, _call: Call) -> LookupResponse:
        entry = await self._answers.lookup(asked_of(request.principal, request.question))
        if entry is None:
            return LookupResponse(miss=LookupResponse.Miss())
        hit = LookupResponse.Hit(answer=entry.answer)
        hit.stored_at.FromMilliseconds(entry.stored_at_ms)
        return LookupResponse(hit=hit)

    async def Store(self, request: StoreRequest, _call: Call) -> StoreResponse:
        asked = asked_of(request.principal, request.question)
        return StoreResponse(stored=await self._answers.keep(asked, request.answer))


def asked_of(principal: Principal, question: Question) -> Asked:
    return Asked(
        tenant=principal.tenant_id,
        person=principal.person_id,
        scope=Scope.TENANT,
        text=question.text,
        mode=question.mode or Mode.MODE_AUTO,
        system_instruction=question.system_instruction,
        max_output_tokens=question.max_output_tokens,
        temperature=question.temperature if question.HasField("temperature") else None,
        language=question.language,
    )
