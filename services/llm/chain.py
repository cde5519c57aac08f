"""The cascade: the junior answers first, the senior where the junior is not sure.

The junior states its confidence before its answer, so a low one is cut off at its first tokens,
before anything was shown, and a high one streams at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from focus.chat.v1.chat_pb2 import FinishReason, Mode
from services.common import errors, logs
from services.llm import confidence, measures
from services.llm.answers import Answer, Bill, Delta, Escalated, Event, Waiting
from services.llm.catalogue import TierName
from services.llm.prompt import Asker, Prompt, ToolCall
from services.llm.providers.port import Chunk

log = logs.get(__name__)


class Models(Protocol):
    """Asks a model of a tier, with all that quota, keys and retries take."""

    def preferred(self, tier: TierName) -> str:
        """The model that is asked first."""
        ...

    def stream(self, tier: TierName, prompt: Prompt, asker: Asker, bill: Bill) -> AsyncGenerator[Waiting | Chunk, None]:
        """Waiting before the first chunk only; the last chunk has a finish reason. Raises FocusError."""
        ...

    async def complete(self, tier: TierName, prompt: Prompt, asker: Asker, bill: Bill) -> Chunk:
        """The whole answer. Raises FocusError."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """When the junior's word is good enough; all from 0 to 1."""

    threshold: float
    unstated_confidence: float
    # What an answer of the senior counts as, which states none.
    senior_confidence: float


class Cascade:
    """Answers questions."""

    def __init__(self, models: Models, policy: Policy) -> None:
        self._models = models
        self._policy = policy

    async def answer(self, prompt: Prompt, asker: Asker) -> AsyncGenerator[Event, None]:
        """The answer's events; the last one is the Answer, whose text the deltas held."""
        bill = Bill()
        if prompt.mode == Mode.MODE_SENIOR:
            events = self._plain("senior", prompt, asker, bill, escalated=False)
        elif prompt.free_form:
            events = self._junior_first(prompt, asker, bill)
        else:
            # Its form leaves no room for a prefix; what can be checked of it is its form.
            events = self._plain("junior", prompt, asker, bill, escalated=False)
        async with aclosing(events):
            async for event in events:
                yield event

    async def complete(self, prompt: Prompt, asker: Asker) -> Answer:
        """The answer in one piece.

        The junior is still read as a stream where it may be cut off: its whole answer would cost
        the time and the tokens that the early look saves.
        """
        if prompt.mode == Mode.MODE_SENIOR or not prompt.free_form:
            tier: TierName = "senior" if prompt.mode == Mode.MODE_SENIOR else "junior"
            bill = Bill()
            chunk = await self._models.complete(tier, prompt, asker, bill)
            return _answer(chunk.text, chunk.tool_calls, tier, chunk, bill, sure=self._sure(tier), escalated=False)
        texts = []
        async with aclosing(self.answer(prompt, asker)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    texts.append(event.text)
                elif isinstance(event, Answer):
                    return replace(event, text="".join(texts))
        raise errors.Internal("The answer ended without an end.")

    async def _junior_first(self, prompt: Prompt, asker: Asker, bill: Bill) -> AsyncGenerator[Event, None]:
        threshold = self._policy.threshold if prompt.mode != Mode.MODE_JUNIOR else 0.0
        sure = self._policy.unstated_confidence
        asked = replace(prompt, system_instruction=confidence.with_instruction(prompt.system_instruction))
        parser = confidence.PrefixParser()
        async with aclosing(self._models.stream("junior", asked, asker, bill)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, Waiting):
                    yield chunk
                    continue
                shown = parser.feed(chunk.text) if chunk.text else ""
                ended = chunk.finish_reason is not None
                if ended:
                    shown += parser.finish()
                if not parser.decided:
                    continue
                sure = self._policy.unstated_confidence if parser.confidence is None else parser.confidence
                if sure < threshold:
                    break
                threshold = 0.0
                if shown:
                    yield Delta(shown)
                if ended:
                    yield _answer("", (), "junior", chunk, bill, sure=sure, escalated=False)
                    return
        async with aclosing(self._senior_after(sure, prompt, asker, bill)) as events:
            async for event in events:
                yield event

    async def _senior_after(self, sure: float, prompt: Prompt, asker: Asker, bill: Bill) -> AsyncGenerator[Event, None]:
        measures.ESCALATIONS.inc()
        yield Escalated(sure, self._policy.threshold, self._models.preferred("senior"))
        shown = False
        try:
            async with aclosing(self._plain("senior", prompt, asker, bill, escalated=True)) as events:
                async for event in events:
                    shown = shown or isinstance(event, Delta)
                    yield event
            return
        except (errors.Unavailable, errors.Exhausted) as err:
            if shown:
                raise
            log.info("senior cannot answer, the junior does", reason=err.reason_name)
        junior = replace(prompt, mode=Mode.MODE_JUNIOR)
        async with aclosing(self._junior_first(junior, asker, bill)) as events:
            async for event in events:
                yield event

    async def _plain(
        self, tier: TierName, prompt: Prompt, asker: Asker, bill: Bill, *, escalated: bool
    ) -> AsyncGenerator[Event, None]:
        """One tier's answer as it comes."""
        calls: list[ToolCall] = []
        async with aclosing(self._models.stream(tier, prompt, asker, bill)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, Waiting):
                    yield chunk
                    continue
                if chunk.text or chunk.tool_calls:
                    calls += chunk.tool_calls
                    yield Delta(chunk.text, chunk.tool_calls)
                if chunk.finish_reason is not None:
                    yield _answer("", calls, tier, chunk, bill, sure=self._sure(tier), escalated=escalated)
                    return

    def _sure(self, tier: TierName) -> float:
        return self._policy.senior_confidence if tier == "senior" else self._policy.unstated_confidence


def _answer(
    text: str,
    tool_calls: Sequence[ToolCall],
    tier: TierName,
    chunk: Chunk,
    bill: Bill,
    *,
    sure: float,
    escalated: bool,
) -> Answer:
    reason = chunk.finish_reason or FinishReason.FINISH_REASON_OTHER
    return Answer(text, tier, bill.model, sure, reason, bill.usage, bill.cost, escalated, tuple(tool_calls))
