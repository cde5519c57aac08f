"""A model's answer, in pieces or in one."""

from __future__ import annotations

from contextlib import aclosing

from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2
from services.common.errors import Rejected, Unavailable
from services.flow.clients import Models
from services.flow.deadline import Deadline
from services.flow.events import Delta, Escalated, Queued
from services.flow.flight import Course

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
