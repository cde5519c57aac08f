"""Short ways to ask the llm service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from focus.chat.v1 import chat_pb2
from focus.llm.v1 import llm_pb2, llm_pb2_grpc

Stub: TypeAlias = "llm_pb2_grpc.LlmServiceAsyncStub"
TENANT = "00000000-0000-4000-8000-000000000001"


def prompt(question: str, *, mode: chat_pb2.Mode.ValueType = chat_pb2.MODE_AUTO) -> llm_pb2.Prompt:
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=question)])
    return llm_pb2.Prompt(messages=[message], mode=mode)


def principal(tenant: str = TENANT) -> chat_pb2.Principal:
    return chat_pb2.Principal(tenant_id=tenant)


@dataclass
class Told:
    """All that a stream said."""

    deltas: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    escalated: llm_pb2.GenerateResponse.Escalated | None = None
    queued: list[llm_pb2.GenerateResponse.Queued] = field(default_factory=list)
    answer: chat_pb2.Answer = field(default_factory=chat_pb2.Answer)

    @property
    def text(self) -> str:
        return "".join(self.deltas)


async def generate(stub: Stub, asked: llm_pb2.Prompt | str, *, timeout: float = 20, tenant: str = TENANT) -> Told:
    """The whole stream. Raises AioRpcError."""
    if isinstance(asked, str):
        asked = prompt(asked)
    told = Told()
    async for response in stub.Generate(
        llm_pb2.GenerateRequest(principal=principal(tenant), prompt=asked), timeout=timeout
    ):
        kind = response.WhichOneof("event")
        told.order.append(str(kind))
        if kind == "delta":
            told.deltas.append(response.delta.text)
        elif kind == "escalated":
            told.escalated = response.escalated
        elif kind == "queued":
            told.queued.append(response.queued)
        else:
            told.answer = response.finished.answer
    return told


async def complete(
    stub: Stub, asked: llm_pb2.Prompt | str, *, timeout: float = 20, tenant: str = TENANT
) -> chat_pb2.Answer:
    """The answer in one piece. Raises AioRpcError."""
    if isinstance(asked, str):
        asked = prompt(asked)
    response = await stub.Complete(llm_pb2.CompleteRequest(principal=principal(tenant), prompt=asked), timeout=timeout)
    return response.answer
