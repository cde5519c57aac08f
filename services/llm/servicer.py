"""LlmService: protobuf to domain and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from focus.llm.v1 import llm_pb2, llm_pb2_grpc
from services.common import errors
from services.common.rpc import server
from services.llm import messages
from services.llm.chain import Cascade
from services.llm.current import Current
from services.llm.operations import Operations, key_list
from services.llm.prompt import Asker

Context = grpc.aio.ServicerContext[object, object]


class LlmServicer(llm_pb2_grpc.LlmServiceServicer):
    """Answers with a model."""

    def __init__(
        self,
        cascade: Cascade,
        bounds: messages.Bounds,
        total_seconds: float,
        operations: Operations,
        current: Current,
    ) -> None:
        self._cascade = cascade
        self._bounds = bounds
        self._total = total_seconds
        self._operations = operations
        self._current = current

    async def Generate(
        self, request: llm_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[llm_pb2.GenerateResponse]:
        prompt = messages.to_prompt(request.prompt, self._bounds)
        async with aclosing(self._cascade.answer(prompt, self._asker(request, context))) as events:
            async for event in events:
                yield messages.from_event(event)

    async def Complete(self, request: llm_pb2.CompleteRequest, context: Context) -> llm_pb2.CompleteResponse:
        prompt = messages.to_prompt(request.prompt, self._bounds)
        answer = await self._cascade.complete(prompt, self._asker(request, context))
        return llm_pb2.CompleteResponse(answer=messages.from_answer(answer))

    async def ShowQuota(self, request: llm_pb2.ShowQuotaRequest, context: Context) -> llm_pb2.ShowQuotaResponse:
        return await self._operations.quota(self._current.catalogue())

    async def ListKeys(self, request: llm_pb2.ListKeysRequest, context: Context) -> llm_pb2.ListKeysResponse:
        return key_list(self._current.keys)

    async def ForgetMember(
        self, request: llm_pb2.ForgetMemberRequest, context: Context
    ) -> llm_pb2.ForgetMemberResponse:
        await self._operations.forget(request.member)
        return llm_pb2.ForgetMemberResponse()

    def _asker(self, request: llm_pb2.GenerateRequest | llm_pb2.CompleteRequest, context: Context) -> Asker:
        seconds = server.timeout_of(context, self._total)
        if seconds <= 0:
            raise errors.DeadlineExceeded("The answer was not ready in time; try again.")
        principal = request.principal
        return Asker(
            principal.tenant_id,
            asyncio.get_running_loop().time() + seconds,
            messages.priority(request.prompt),
            principal.person_id,
        )
