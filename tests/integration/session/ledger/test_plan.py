"""The plan's figure, from the prices to the tenant's bill: settled in Valkey, booked in PostgreSQL, told over gRPC."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from devstack.valkey import Valkey
from focus.chat.v1 import chat_pb2
from focus.session.v1 import usage_pb2, usage_pb2_grpc
from services.common.errors import InvalidRequest
from services.common.rpc import client
from services.llm import catalogue_file
from services.llm.pricing import Price, Rates
from services.llm.providers.port import Endpoint, Usage
from services.llm.quota import Settlement, Windows, Wish
from services.llm.store.limiter import Membership, Replay, ValkeyLimiter
from tests.integration.llm.load import catalogue
from tests.integration.session.turns.fleet import fleet, new_id, principal, settings

pytestmark = pytest.mark.timeout(180)

QUESTIONS = 20_000
FREE = Rates(0, 0, 0)
# 0.0001 USD a junior question, 0.001 USD a senior one.
PRICES = {"junior": Price(date(2026, 1, 1), FREE, call=100), "senior": Price(date(2026, 1, 1), FREE, call=1000)}
ENDPOINTS = {"junior": Endpoint("p", "gemini-3.5-flash-lite"), "senior": Endpoint("p", "gemini-3.1-pro-preview")}
USAGE = Usage(31, 0, 9, 0)


def settled(tenant: str, tier: str) -> Settlement:
    wish = Wish(uuid.uuid4().hex, tier, tenant, 0, 40, 0, (ENDPOINTS[tier],), 60.0, new_id())  # type: ignore[arg-type]
    return Settlement(wish, ENDPOINTS[tier], "done", USAGE, PRICES[tier].cost(USAGE))


async def test_20_000_questions_at_70_to_30_come_to_7_dollars_40(
    tmp_path: Path, database_url: str, valkey: Valkey
) -> None:
    found = catalogue_file.parse(catalogue("{rpm: 40}").encode(), "test")
    limiter = ValkeyLimiter(
        valkey.url,
        Windows(60, 1),
        Membership("m", "m"),
        lambda: found,
        Replay(deque(), {}),
        lambda: list(ENDPOINTS.values()),
        timeout=10,
    )
    me = principal()
    for _ in range(QUESTIONS // 100):
        await limiter.settle([settled(me.tenant_id, "senior" if number < 30 else "junior") for number in range(100)])
    limiter.close()
    today = datetime.now(UTC).date()
    request = usage_pb2.GetUsageRequest(
        principal=me, from_day=(today - timedelta(days=1)).isoformat(), to_day=today.isoformat()
    )
    async with (
        fleet(settings(tmp_path, database_url, valkey.url, ledger_seconds=0.02)) as running,
        client.open_channel(running.targets[0]) as channel,
        asyncio.timeout(60),
    ):
        stub = usage_pb2_grpc.UsageServiceStub(channel)
        while True:
            told = await client.unary(stub.GetUsage, request, timeout=10)
            if sum(one.calls for one in told.used) >= QUESTIONS:
                break
            await asyncio.sleep(0.05)
        stranger = usage_pb2.GetUsageRequest(principal=principal(), from_day=request.from_day, to_day=request.to_day)
        assert not (await client.unary(stub.GetUsage, stranger, timeout=10)).used
        request.to_day = "tomorrow"
        with pytest.raises(InvalidRequest):
            await client.unary(stub.GetUsage, request, timeout=10)
    assert told.cost_microusd == 7_400_000
    by_tier = {chat_pb2.TIER_JUNIOR: [0, 0], chat_pb2.TIER_SENIOR: [0, 0]}
    for one in told.used:
        by_tier[one.tier][0] += one.calls
        by_tier[one.tier][1] += one.cost_microusd
    assert by_tier == {chat_pb2.TIER_JUNIOR: [14_000, 1_400_000], chat_pb2.TIER_SENIOR: [6_000, 6_000_000]}
