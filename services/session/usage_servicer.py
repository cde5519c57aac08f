"""UsageService over gRPC."""

from __future__ import annotations

from typing import Any

import grpc

from focus.chat.v1 import chat_pb2
from focus.session.v1 import usage_pb2, usage_pb2_grpc
from services.session import messages
from services.session.ledger import Ledger, Used

Context = grpc.aio.ServicerContext[Any, Any]

_TIERS = {"junior": chat_pb2.TIER_JUNIOR, "senior": chat_pb2.TIER_SENIOR}


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """Translates between protobuf and `Ledger`; errors are translated around it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def GetUsage(self, request: usage_pb2.GetUsageRequest, context: Context) -> usage_pb2.GetUsageResponse:
        tenant_id = messages.principal(request.principal).tenant_id
        used = await self._ledger.used(tenant_id, request.from_day, request.to_day)
        cost = sum(one.cost_microusd for one in used)
        return usage_pb2.GetUsageResponse(used=[_used(one) for one in used], cost_microusd=cost)


def _used(used: Used) -> usage_pb2.GetUsageResponse.Used:
    return usage_pb2.GetUsageResponse.Used(
        day=used.day.isoformat(),
        model=used.model,
        tier=_TIERS.get(used.tier, chat_pb2.TIER_UNSPECIFIED),
        calls=used.calls,
        estimated_calls=used.estimated_calls,
        prompt_tokens=used.prompt_tokens,
        cached_tokens=used.cached_tokens,
        output_tokens=used.output_tokens,
        thought_tokens=used.thought_tokens,
        cost_microusd=used.cost_microusd,
    )
