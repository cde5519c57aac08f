"""What is asked, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from focus.cache.v1 import cache_pb2
from focus.chat.v1 import chat_pb2
from focus.llm.v1 import llm_pb2
from focus.session.v1 import turn_pb2

# `stale`: past its time, given while it is generated anew or because generating failed; `coalesced`: somebody
# else's, who asked the same a moment earlier; `bypass`: the cache was not asked, because the answer depends on
# what was said before.
CacheUse = Literal["hit", "miss", "stale", "coalesced", "bypass"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the caller's wishes. The text is neither empty nor too long: the edge has checked it."""

    text: str
    mode: chat_pb2.Mode.ValueType = chat_pb2.MODE_AUTO
    system_instruction: str = ""
    # 0: the deployment's default.
    max_output_tokens: int = 0
    # None: the model's default.
    temperature: float | None = None

    def for_cache(self) -> cache_pb2.Question:
        return cache_pb2.Question(
            text=self.text,
            mode=self.mode,
            system_instruction=self.system_instruction,
            max_output_tokens=self.max_output_tokens,
            temperature=self.temperature,
        )

    @classmethod
    def from_cache(cls, told: cache_pb2.Question) -> Question:
        """The inverse of `for_cache`."""
        temperature = told.temperature if told.HasField("temperature") else None
        return cls(told.text, told.mode, told.system_instruction, told.max_output_tokens, temperature)

    def prompt(
        self,
        history: Iterable[chat_pb2.Message] = (),
        priority: llm_pb2.Priority.ValueType = llm_pb2.PRIORITY_INTERACTIVE,
    ) -> llm_pb2.Prompt:
        """The question after what was said before."""
        asked = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=self.text)])
        return llm_pb2.Prompt(
            messages=[*history, asked],
            system_instruction=self.system_instruction,
            mode=self.mode,
            max_output_tokens=self.max_output_tokens,
            temperature=self.temperature,
            priority=priority,
        )


@dataclass(frozen=True, slots=True)
class Repeatable:
    """What makes a request one with its repeats: the Idempotency-Key, and the SHA-256 of what was asked."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a stateless question. But for a miss it costs nothing: usage and cost are zero."""

    answer: chat_pb2.Answer
    cache: CacheUse
    # Seconds since a stored answer was stored.
    age: int | None = None
    # Names the stored answer to its tenant, for feedback; empty: it is not kept.
    entry: bytes = b""
    # True: the saved outcome of an earlier request with the same Idempotency-Key.
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """A turn as it is stored."""

    turn: turn_pb2.Turn
    cache: CacheUse
    age: int | None = None
    entry: bytes = b""
    history_cut: bool = False
    replayed: bool = False
