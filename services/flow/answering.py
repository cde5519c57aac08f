"""Where an answer comes from: the cache, or a model."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

from focus.cache.v1 import cache_pb2
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2
from services.common import logs
from services.common.errors import FocusError, Rejected, Unavailable
from services.flow.clients import Answers, Models
from services.flow.deadline import Deadline
from services.flow.events import Delta, Escalated, Queued
from services.flow.flight import Course
from services.flow.question import Question

log = logs.get(__name__)

# The cache answers in about a millisecond; what takes longer than this is no help.
CACHE_SECONDS = 0.5


# Without a word said; an answer that was cut in the middle is shown as far as it goes.
_WITHHELD = frozenset(
    {
        chat_pb2.FINISH_REASON_SAFETY,
        chat_pb2.FINISH_REASON_RECITATION,
        chat_pb2.FINISH_REASON_PROHIBITED,
        chat_pb2.FINISH_REASON_LANGUAGE,
        chat_pb2.FINISH_REASON_OTHER,
    }
)


class Withheld(Rejected):
    """The provider gave no answer, but was paid for thinking about it: `spent` has model, usage and cost."""

    def __init__(self, spent: chat_pb2.Answer) -> None:
        super().__init__(
            "The model's provider withheld the answer to this question; ask in another way.",
            ErrorReason.ERROR_REASON_ANSWER_BLOCKED,
        )
        self.spent = spent


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What the cache said: an answer, or where to store one."""

    answer: chat_pb2.Answer | None = None
    # Ties the answer to be stored to this look-up.
    fill_token: bytes = b""
    # False: the cache did not answer, so it is not told the answer either.
    reached: bool = True


class LookUp:
    """One question to the cache, which may start before it is known whether it is needed.

    `at_once` starts it when the context opens, beside whatever else is done there; else
    it starts when it is called. Closing the context ends it.
    """

    def __init__(
        self, answers: Answers, principal: chat_pb2.Principal, question: Question, deadline: Deadline, *, at_once: bool
    ) -> None:
        self._answers = answers
        self._request = cache_pb2.LookupRequest(principal=principal, question=question.for_cache())
        self._deadline = deadline
        self._at_once = at_once
        self._early: asyncio.Task[LookedUp] | None = None

    def __enter__(self) -> Self:
        if self._at_once:
            self._early = asyncio.create_task(self._look_up())
        return self

    def __exit__(self, *_: object) -> None:
        if self._early is not None:
            self._early.cancel()

    async def __call__(self) -> LookedUp:
        """What the cache said. A cache that is down has nothing and takes nothing."""
        return await (self._early or self._look_up())

    async def _look_up(self) -> LookedUp:
        try:
            response = await self._answers.look_up(self._request, timeout=self._deadline.remaining(CACHE_SECONDS))
        except FocusError as err:
            log.warning("cache look-up failed; taken as a miss", reason=err.reason_name)
            return LookedUp(reached=False)
        if response.WhichOneof("result") == "hit":
            answer = response.hit.answer
            answer.ClearField("usage")
            answer.ClearField("cost_microusd")
            return LookedUp(answer)
        return LookedUp(fill_token=response.miss.fill.token)


async def keep(
    answers: Answers, principal: chat_pb2.Principal, question: Question, answer: chat_pb2.Answer, found: LookedUp
) -> None:
    """Stores a complete answer for others; a failure to do so is nobody's."""
    if not found.reached or answer.finish_reason != chat_pb2.FINISH_REASON_STOP or not answer.text:
        return
    request = cache_pb2.StoreRequest(
        principal=principal, question=question.for_cache(), answer=answer, fill_token=found.fill_token
    )
    try:
        await answers.store(request, timeout=CACHE_SECONDS)
    except FocusError as err:
        log.warning("an answer could not be cached", reason=err.reason_name)


async def generate(
    models: Models, principal: chat_pb2.Principal, prompt: llm_pb2.Prompt, course: Course, deadline: Deadline
) -> chat_pb2.Answer:
    """A model's answer: piece by piece where somebody watches, else by one unary call at a fraction of the cost.

    Raises what the llm service raised; Withheld; Unavailable (PROVIDER_STREAM_BROKEN)
    when its stream ends without an end.
    """
    if not course.streaming:
        whole = llm_pb2.CompleteRequest(principal=principal, prompt=prompt)
        return _given((await models.complete(whole, timeout=deadline.remaining())).answer)
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
                return _given(answer)
    raise Unavailable(
        "The model stopped in the middle of its answer; try again.",
        ErrorReason.ERROR_REASON_PROVIDER_STREAM_BROKEN,
        retry_after=1.0,
    )


def _given(answer: chat_pb2.Answer) -> chat_pb2.Answer:
    if not answer.text and answer.finish_reason in _WITHHELD:
        raise Withheld(answer)
    return answer
