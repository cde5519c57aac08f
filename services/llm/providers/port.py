"""The port behind which every model provider stands.

    ProviderError
    ├── KeyRefused         the key is unknown, withdrawn or believed leaked
    ├── QuotaRefused       a limit was passed, as the provider counts it
    ├── Overloaded         the provider failed; elsewhere or later it may work
    ├── RequestRefused     the request itself is at fault; it will fail everywhere
    ├── ModelUnknown       this model is not served to this project here
    └── StreamBroken       the answer ended before it was complete, or could not be read

None of them carries the provider's own text, which may quote what was sent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from focus.chat.v1.chat_pb2 import FinishReason
from services.llm.prompt import Prompt, ToolCall


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `cached` is part of `prompt`; `thoughts` stand beside `output` and cost the same."""

    prompt: int = 0
    cached: int = 0
    output: int = 0
    thoughts: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.output + other.output,
            self.thoughts + other.thoughts,
        )


@dataclass(slots=True)
class Chunk:
    """A piece of an answer; `usage` is cumulative, `finish_reason` is set on the last piece only."""

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: FinishReason.ValueType | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a call goes: a model as one project is served it at one location."""

    project: str
    model: str
    location: str = "global"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `connect` bounds how long a request may wait for its connection before it is sent, `total` all."""

    connect: float = 3.0
    first_token: float = 30.0
    between_tokens: float = 20.0
    total: float = 120.0


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit that the provider says was passed, as its QuotaFailure names it."""

    quota_id: str
    metric: str = ""
    value: str = ""


class ProviderError(Exception):
    """A call that the provider did not answer."""


class KeyRefused(ProviderError):
    """The key is at fault. `leaked` when the provider says that it became public."""

    def __init__(self, *, leaked: bool = False) -> None:
        super().__init__("the provider refused the key")
        self.leaked = leaked


class QuotaRefused(ProviderError):
    """429. `retry_delay` (seconds) is what the provider advised, None where it said nothing."""

    def __init__(self, violations: Sequence[Violation] = (), retry_delay: float | None = None) -> None:
        super().__init__("the provider's quota is exhausted")
        self.violations = violations
        self.retry_delay = retry_delay


class Overloaded(ProviderError):
    """5xx, no connection, or a time-out before the first piece.

    `sent` False: the request never went out; `late`: because there was no connection in time.
    """

    def __init__(self, what: str, *, sent: bool = True, late: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.sent = sent
        self.late = late


class RequestRefused(ProviderError):
    """4xx other than for key, quota and model; `fields` names what was at fault, without values."""

    def __init__(self, status: int, fields: Sequence[str] = ()) -> None:
        super().__init__(f"the provider refused the request (HTTP {status})")
        self.status = status
        self.fields = fields


class ModelUnknown(ProviderError):
    """404."""

    def __init__(self) -> None:
        super().__init__("the provider does not serve this model here")


class StreamBroken(ProviderError):
    """The answer stopped, stalled or became unreadable; `what` says which."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Provider(Protocol):
    """A provider of models. `headers` hold the credential and nothing else.

    Both raise ProviderError. A cancelled call, or a stream that is closed early, ends the
    provider's work at once by closing its connection.
    """

    def stream(
        self, endpoint: Endpoint, headers: Mapping[str, str], prompt: Prompt, timeouts: Timeouts
    ) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces; the last one has a finish reason."""
        ...

    async def complete(
        self, endpoint: Endpoint, headers: Mapping[str, str], prompt: Prompt, timeouts: Timeouts
    ) -> Chunk:
        """The whole answer."""
        ...
