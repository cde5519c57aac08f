"""Generating stored answers anew before they are too old, in the background and after everybody who waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from focus.cache.v1 import cache_pb2, entry_pb2
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2
from services.common import logs
from services.common.errors import Exhausted, FocusError
from services.flow.events import Delta, Escalated
from services.flow.fills import Fill, Fills
from services.flow.flight import Course
from services.flow.question import Question

log = logs.get(__name__)

MOST_AT_ONCE = 8
REFRESH_SECONDS = 120.0
STORE_SECONDS = 2.0
# After quota was found short, or the provider out, nothing is refreshed for so long.
PAUSE_SECONDS = 30.0


class Keeping(Protocol):
    async def store(self, request: cache_pb2.StoreRequest, *, timeout: float) -> cache_pb2.StoreResponse: ...


class Generating(Protocol):
    def generate(
        self, request: llm_pb2.GenerateRequest, *, timeout: float
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]: ...


class Refreshes:
    """The refreshes of this process. Who gets a lease to refresh while there is no room gives it back."""

    def __init__(self, answers: Keeping, models: Generating, fills: Fills) -> None:
        self._answers = answers
        self._models = models
        self._fills = fills
        self._running: set[asyncio.Task[None]] = set()
        self._paused_until = 0.0

    @property
    def may_start(self) -> bool:
        """False while there is no room, or quota is short."""
        return len(self._running) < MOST_AT_ONCE and time.monotonic() >= self._paused_until

    def start(self, principal: chat_pb2.Principal, question: cache_pb2.Question, granted: cache_pb2.Fill) -> None:
        """Generates the answer anew and stores it; nobody waits for it."""
        course = Course(streaming=True, durable=True)
        course.must_finish()
        course.leave()
        fill = self._fills.hold(granted, course)
        task = asyncio.create_task(self._refresh(principal, question, fill), name="refresh")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Stops all of them; their leases are given back."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _refresh(self, principal: chat_pb2.Principal, question: cache_pb2.Question, fill: Fill) -> None:
        started = time.monotonic()
        try:
            answer = await self._generate(principal, question, fill.course)
            request = cache_pb2.StoreRequest(
                principal=principal,
                question=question,
                answer=answer,
                fill_token=fill.token,
                generation_ms=int((time.monotonic() - started) * 1000),
                origin=entry_pb2.ORIGIN_REFRESH,
            )
            await self._answers.store(request, timeout=STORE_SECONDS)
        except FocusError as err:
            log.info("an answer was not refreshed", reason=err.reason_name)
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            # Whoever follows it wants the answer more than we do, and takes over.
            self._fills.release(fill, None if fill.followed else err)
        except BaseException:
            self._fills.release(fill)
            raise
        else:
            self._fills.drop(fill)

    async def _generate(
        self, principal: chat_pb2.Principal, question: cache_pb2.Question, course: Course
    ) -> chat_pb2.Answer:
        prompt = Question.from_cache(question).prompt(priority=llm_pb2.PRIORITY_WARMING)
        request = llm_pb2.GenerateRequest(principal=principal, prompt=prompt)
        async with aclosing(self._models.generate(request, timeout=REFRESH_SECONDS)) as events:
            async for event in events:
                kind = event.WhichOneof("event")
                if kind == "queued":
                    raise Exhausted("Others wait for quota.", ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED)
                if kind == "delta":
                    course.emit(Delta(event.delta.text))
                elif kind == "escalated":
                    told = event.escalated
                    course.emit(Escalated(told.confidence, told.threshold, told.model))
                elif kind == "finished":
                    event.finished.answer.text = course.text
                    return event.finished.answer
        raise FocusError("The model stopped in the middle.", ErrorReason.ERROR_REASON_PROVIDER_STREAM_BROKEN)
