"""One question: looked up, generated if its answer is missing or ends soon, stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Protocol

from focus.cache.v1 import cache_pb2
from focus.cache.v1.entry_pb2 import Origin
from focus.chat.v1 import chat_pb2
from focus.llm.v1 import llm_pb2
from services.common.errors import FocusError

_CACHE_SECONDS = 2.0


class Cache(Protocol):
    """The cache service. Raises FocusError."""

    async def look_up(self, request: cache_pb2.LookupRequest, timeout: float) -> cache_pb2.LookupResponse: ...

    async def store(self, request: cache_pb2.StoreRequest, timeout: float) -> cache_pb2.StoreResponse: ...

    async def renew(self, request: cache_pb2.RenewRequest, timeout: float) -> cache_pb2.RenewResponse: ...

    async def release(self, request: cache_pb2.ReleaseRequest, timeout: float) -> cache_pb2.ReleaseResponse: ...


class Models(Protocol):
    """The llm service. Raises FocusError."""

    async def complete(self, request: llm_pb2.CompleteRequest, timeout: float) -> llm_pb2.CompleteResponse: ...


class Warmed(Enum):
    """What became of a question."""

    # Its answer is there and stays long enough.
    FRESH = "fresh"
    STORED = "stored"
    # Somebody else generates it, or its answer may not be kept.
    SKIPPED = "skipped"


class Warmer:
    """Warms one question at a time, as the lowest in rank of all who wait for quota."""

    def __init__(self, cache: Cache, models: Models, *, ahead_seconds: int, question_seconds: float) -> None:
        self._cache = cache
        self._models = models
        self._ahead = ahead_seconds
        self._seconds = question_seconds

    async def find(self, one: cache_pb2.ListPopularResponse.Popular) -> cache_pb2.Fill | Warmed:
        """The lease to generate the answer, where it is due. Raises FocusError."""
        found = await self._cache.look_up(
            cache_pb2.LookupRequest(
                principal=one.principal,
                question=one.question,
                scope=one.scope,
                single_flight=True,
                may_refresh=True,
                refresh_within_seconds=self._ahead,
            ),
            _CACHE_SECONDS,
        )
        fill = found.hit.refresh if found.HasField("hit") else found.miss.fill
        if fill.leased:
            return fill
        return Warmed.FRESH if found.HasField("hit") else Warmed.SKIPPED

    async def generate(
        self, one: cache_pb2.ListPopularResponse.Popular, fill: cache_pb2.Fill
    ) -> tuple[Warmed, chat_pb2.Answer]:
        """Generates and stores. Raises FocusError; the lease is given up then."""
        prompt = llm_pb2.Prompt(
            messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=one.question.text)])],
            system_instruction=one.question.system_instruction,
            mode=one.question.mode,
            max_output_tokens=one.question.max_output_tokens,
            priority=llm_pb2.PRIORITY_WARMING,
        )
        if one.question.HasField("temperature"):
            prompt.temperature = one.question.temperature
        started = time.monotonic()
        async with self._held(fill):
            request = llm_pb2.CompleteRequest(principal=one.principal, prompt=prompt)
            answer = (await self._models.complete(request, self._seconds)).answer
            stored = await self._cache.store(
                cache_pb2.StoreRequest(
                    principal=one.principal,
                    question=one.question,
                    scope=one.scope,
                    answer=answer,
                    fill_token=fill.token,
                    generation_ms=int((time.monotonic() - started) * 1000),
                    origin=Origin.ORIGIN_WARMING,
                ),
                _CACHE_SECONDS,
            )
        return (Warmed.STORED if stored.stored else Warmed.SKIPPED), answer

    @asynccontextmanager
    async def _held(self, fill: cache_pb2.Fill) -> AsyncIterator[None]:
        """Renews the lease inside the block; gives it up, so that others need not wait, when the block fails."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(fill.renew_every_ms / 1000)
                one = cache_pb2.RenewRequest.Renewal(token=fill.token)
                try:
                    await self._cache.renew(cache_pb2.RenewRequest(renewals=[one]), _CACHE_SECONDS)
                except FocusError:
                    continue

        task = asyncio.create_task(renew())
        try:
            yield
        except BaseException:
            ended = cache_pb2.ReleaseRequest.Ended(token=fill.token)
            with suppress(FocusError):
                await self._cache.release(cache_pb2.ReleaseRequest(fills=[ended]), _CACHE_SECONDS)
            raise
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
