"""Wires a warming run and tells how far it is."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import AsyncExitStack

import grpc

from focus.cache.v1 import cache_pb2
from focus.cache.v1.cache_pb2_grpc import CacheServiceStub
from focus.llm.v1 import llm_pb2
from focus.llm.v1.llm_pb2_grpc import LlmServiceStub
from services.common.errors import FocusError
from services.common.rpc import client
from services.warming.questions import chosen, read
from services.warming.run import Run
from services.warming.settings import WarmingSettings
from services.warming.warmer import Warmer

_CALL_SECONDS = 10.0
_BAR = 30


class GrpcCache:
    """The cache service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = CacheServiceStub(channel)

    async def look_up(self, request: cache_pb2.LookupRequest, timeout: float) -> cache_pb2.LookupResponse:
        return await client.unary(self._stub.Lookup, request, timeout=timeout)

    async def store(self, request: cache_pb2.StoreRequest, timeout: float) -> cache_pb2.StoreResponse:
        return await client.unary(self._stub.Store, request, timeout=timeout)

    async def renew(self, request: cache_pb2.RenewRequest, timeout: float) -> cache_pb2.RenewResponse:
        return await client.unary(self._stub.Renew, request, timeout=timeout)

    async def release(self, request: cache_pb2.ReleaseRequest, timeout: float) -> cache_pb2.ReleaseResponse:
        return await client.unary(self._stub.Release, request, timeout=timeout)

    async def popular(self, request: cache_pb2.ListPopularRequest) -> cache_pb2.ListPopularResponse:
        return await client.unary(self._stub.ListPopular, request, timeout=_CALL_SECONDS)


class GrpcModels:
    """The llm service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = LlmServiceStub(channel)

    async def complete(self, request: llm_pb2.CompleteRequest, timeout: float) -> llm_pb2.CompleteResponse:
        return await client.unary(self._stub.Complete, request, timeout=timeout)

    async def quota(self) -> llm_pb2.ShowQuotaResponse:
        return await client.unary(self._stub.ShowQuota, llm_pb2.ShowQuotaRequest(), timeout=_CALL_SECONDS)


async def app(settings: WarmingSettings) -> Counter[str]:
    """One run; what became of the questions. Raises SystemExit with a sentence when it cannot begin."""
    common = read(settings.questions_file) if settings.questions_file else []
    async with AsyncExitStack() as stack:
        cache = GrpcCache(await stack.enter_async_context(client.open_channel(settings.cache_target)))
        models = GrpcModels(await stack.enter_async_context(client.open_channel(settings.llm_target)))
        popular = cache_pb2.ListPopularResponse()
        if settings.popular:
            wanted = cache_pb2.ListPopularRequest(limit=settings.popular, tenant_ids=settings.tenants)
            try:
                popular = await cache.popular(wanted)
            except FocusError as err:
                raise SystemExit(f"the cache cannot say what is popular: {err.message}") from None
        run = Run(
            Warmer(
                cache,
                models,
                ahead_seconds=settings.ahead_seconds,
                question_seconds=settings.question_seconds,
            ),
            models,
            share=settings.share,
            unlimited=settings.unlimited_per_minute,
            between=settings.between,
            tell=Bar(),
        )
        return await run.warm(chosen(common, popular.questions, settings.tenants))


class Bar:
    """A progress bar on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._told = float("-inf")

    def __call__(self, done: int, total: int, said: str) -> None:
        terminal, now = sys.stderr.isatty(), time.monotonic()
        if not terminal and done < total and now - self._told < 30:
            return
        self._told = now
        filled = _BAR * done // max(total, 1)
        left = (now - self._begun) * (total - done) / done if done else 0.0
        line = f"warming [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total}  {left:.0f} s left  {said}"
        sys.stderr.write(f"\r\x1b[K{line}" if terminal else line + "\n")
        if terminal and done == total:
            sys.stderr.write("\n")
        sys.stderr.flush()
