"""Where an answer comes from: the cache, or a model."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import Self

from focus.cache.v1 import cache_pb2
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2
from services.common import logs
from services.common.errors import FocusError, Unavailable
from services.flow.clients import Answers, Models
from services.flow.deadline import Deadline
from services.flow.events import Delta, Escalated, Queued
from services.flow.flight import Course
from services.flow.question import Question

log = logs.get(__name__)

# The cache answers in about a millisecond; what takes longer than this is no help.
CACHE_SECONDS = 0.5


async def look_up(
    answers: Answers, principal: chat_pb2.Principal, question: Question, deadline: Deadline
) -> chat_pb2.Answer | None:
    """The kept answer, or None. A cache that is down is a miss."""
    request = cache_pb2.LookupRequest(principal=principal, question=question.for_cache())
    try:
        response = await answers.look_up(request, timeout=deadline.remaining(CACHE_SECONDS))
    except FocusError as err:
        log.warning("cache look-up failed; taken as a miss", reason=err.reason_name)
        return None
    if response.WhichOneof("result") != "hit":
        return None
    answer = response.hit.answer
    answer.ClearField("usage")
    answer.ClearField("cost_microusd")
    return answer


class LookUp:
    """A look-up that may start before it is known whether it is needed.

    `at_once` starts it when the context opens, beside whatever else is done there; else
    it starts when it is called. Closing the context ends it.
    """

    def __init__(
        self, answers: Answers, principal: chat_pb2.Principal, question: Question, deadline: Deadline, *, at_once: bool
    ) -> None:
        self._look_up = partial(look_up, answers, principal, question, deadline)
        self._at_once = at_once
        self._early: asyncio.Task[chat_pb2.Answer | None] | None = None

    def __enter__(self) -> Self:
        if self._at_once:
            self._early = asyncio.create_task(self._look_up())
        return self

    def __exit__(self, *_: object) -> None:
        if self._early is not None:
            self._early.cancel()

    async def __call__(self) -> chat_pb2.Answer | None:
        """The kept answer, or None."""
        return await (self._early or self._look_up())


async def keep(answers: Answers, principal: chat_pb2.Principal, question: Question, answer: chat_pb2.Answer) -> None:
    """Stores a complete answer for others; a failure is nobody's."""
    if answer.finish_reason != chat_pb2.FINISH_REASON_STOP or not answer.text:
        return
    request = cache_pb2.StoreRequest(principal=principal, question=question.for_cache(), answer=answer)
    try:
        await answers.store(request, timeout=CACHE_SECONDS)
    except FocusError as err:
        log.warning("an answer could not be cached", reason=err.reason_name)


async def generate(
    models: Models, principal: chat_pb2.Principal, prompt: llm_pb2.Prompt, course: Course, deadline: Deadline
) -> chat_pb2.Answer:
    """A model's answer: piece by piece where somebody watches, else by one unary call at a fraction of the cost.

    Raises what the llm service raised; Unavailable (PROVIDER_STREAM_BROKEN) when its
    stream ends without an end.
    """
    if not course.streaming:
        whole = llm_pb2.CompleteRequest(principal=principal, prompt=prompt)
        return (await models.complete(whole, timeout=deadline.remaining())).answer
    request = llm_pb2.GenerateRequest(principal=principal, prompt=prompt)
    async with aclosing(models.generate(request, timeout=deadline.remaining())) as events:
        async for event in events:
            kind = event.WhichOneof("event")
            if kind == "delta":
                course.emit(Delta(event.delta.text))
            elif kind == "queued":
                course.emit(Queued("quota", event.queued.position, event.queued.expected_wait_ms))
            elif kind == "escalated":
                told = event.escalated
                course.emit(Escalated(told.confidence, told.threshold, told.model))
            elif kind == "finished":
                answer = event.finished.answer
                answer.text = course.text
                return answer
    raise Unavailable(
        "The model stopped in the middle of its answer; try again.",
        ErrorReason.ERROR_REASON_PROVIDER_STREAM_BROKEN,
        retry_after=1.0,
    )
