"""Which answers may be kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from focus.cache.v1.cache_pb2 import NotStored
from focus.chat.v1.chat_pb2 import Answer, FinishReason
from services.cache.rules import Rules


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules for keeping; `min_confidence` from 0 to 1."""

    rules: Rules
    min_confidence: float

    def refused(self, question: str, answer: Answer, *, no_store: bool, flagged: bool) -> NotStored.ValueType:
        """Why the answer may not be kept; UNSPECIFIED: it may.

        `no_store` is the request's wish, `flagged` the model's own word that the answer
        depends on the time.
        """
        # One that wants tools called is a question back.
        if answer.finish_reason != FinishReason.FINISH_REASON_STOP or not answer.text.strip() or answer.tool_calls:
            return NotStored.NOT_STORED_INCOMPLETE
        if no_store:
            return NotStored.NOT_STORED_REQUESTED
        if math.isnan(answer.confidence) or answer.confidence < self.min_confidence:
            return NotStored.NOT_STORED_UNSURE
        if flagged or self.rules.time_dependent(question) or self.rules.dated(answer.text):
            return NotStored.NOT_STORED_TIME_DEPENDENT
        if self.rules.refusal(answer.text):
            return NotStored.NOT_STORED_REFUSAL
        return NotStored.NOT_STORED_UNSPECIFIED
