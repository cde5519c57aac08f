"""Offers questions to several llm processes at a steady rate, and counts how they fare."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc

from focus.llm.v1 import llm_pb2, llm_pb2_grpc
from services.common.rpc import status
from services.common.rpc.client import open_channel
from tests.integration.llm.asking import principal, prompt

CATALOGUE = """
version: 1
order: {{junior: [gemini-3.5-flash-lite], senior: [gemini-3.1-pro-preview]}}
models:
  gemini-3.5-flash-lite:
    tier: junior
    context_tokens: 1000000
    output_tokens: 65536
    features: [system_instruction, json_schema, tools, images, thinking, caching]
    prices: [{{from: 2026-01-01, input: 300000, output: 2500000}}]
  gemini-3.1-pro-preview:
    tier: senior
    context_tokens: 1000000
    output_tokens: 65536
    features: [system_instruction, json_schema, tools, images, thinking, caching]
    prices: [{{from: 2026-01-01, input: 2000000, output: 12000000}}]
accounts:
  paid: {{limits: {{"*": {limits}}}}}
projects: {{"*": {{account: paid}}}}
"""


def catalogue(limits: str) -> str:
    """A catalogue with one project, whose models all have the same limits, such as `{rpm: 60}`."""
    return CATALOGUE.format(limits=limits)


@dataclass
class Fared:
    """How the offered questions fared: by outcome (`ok` or a reason), overall and by tenant; times to an answer."""

    outcomes: Counter[str] = field(default_factory=Counter)
    tenants: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, tenant: str, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self.tenants.setdefault(tenant, Counter())[outcome] += 1


async def offer(
    addresses: Callable[[], Sequence[str]],
    *,
    per_second: float,
    seconds: float,
    patience: float,
    tenant: Callable[[], str] = lambda: "00000000-0000-4000-8000-000000000001",
    text: Callable[[], str] = lambda: "What is the capital of Brazil?",
) -> Fared:
    """Questions at `per_second`, each to one of `addresses()` at random; each waits up to `patience` seconds."""
    channels: dict[str, grpc.aio.Channel] = {}
    fared = Fared()
    tasks: set[asyncio.Task[None]] = set()

    async def ask() -> None:
        address = random.choice(list(addresses()))
        if address not in channels:
            channels[address] = open_channel(address)
        stub: llm_pb2_grpc.LlmServiceAsyncStub = llm_pb2_grpc.LlmServiceStub(channels[address])
        who = tenant()
        request = llm_pb2.CompleteRequest(principal=principal(who), prompt=prompt(text()))
        began = time.monotonic()
        try:
            await stub.Complete(request, timeout=patience)
        except grpc.aio.AioRpcError as err:
            fared.add(who, status.from_rpc_error(err).reason_name)
        else:
            fared.add(who, "ok")
            fared.seconds.append(time.monotonic() - began)

    begin = time.monotonic()
    sent = 0
    try:
        while (elapsed := time.monotonic() - begin) < seconds:
            while sent < elapsed * per_second:
                sent += 1
                task = asyncio.create_task(ask())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.01)
        while tasks:
            await asyncio.wait(set(tasks))
    finally:
        for channel in channels.values():
            await channel.close()
    return fared
