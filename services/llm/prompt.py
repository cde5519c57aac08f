"""What a model is asked, free of any provider's and any protocol's form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from focus.chat.v1.chat_pb2 import Mode

Role = Literal["user", "model"]
Priority = Literal["interactive", "batch", "warming"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Media:
    """An image (or other media that the model reads) given inline."""

    mime_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool called.

    `arguments` is a JSON object. `signature` is the provider's opaque proof of the thought behind
    the call; it must come back unchanged with the history.
    """

    name: str
    arguments: str
    call_id: str = ""
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered; `result` is a JSON object."""

    name: str
    result: str
    call_id: str = ""


Part = Text | Media | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said."""

    role: Role
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call; `parameters` is a JSON Schema as text, or empty."""

    name: str
    description: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class SafetySetting:
    """The provider's harm category and the threshold from which it withholds an answer."""

    category: str
    threshold: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question with its history, oldest message first.

    `max_output_tokens` 0 and `temperature` None leave the model's default. `thinking_budget` is in
    tokens: None leaves the model's default, 0 switches thinking off, -1 lets the model choose.
    `response_schema` is a JSON Schema as text; with it the answer is JSON. `cache_name` names a
    prefix that the provider holds already.
    """

    messages: Sequence[Message]
    system_instruction: str = ""
    mode: Mode.ValueType = Mode.MODE_AUTO
    max_output_tokens: int = 0
    temperature: float | None = None
    thinking_budget: int | None = None
    response_schema: str = ""
    tools: Sequence[Tool] = ()
    safety_settings: Sequence[SafetySetting] = ()
    cache_name: str = ""

    @property
    def free_form(self) -> bool:
        """True where the answer is plain text, which alone can carry a confidence prefix."""
        return not self.response_schema and not self.tools

    @property
    def characters(self) -> int:
        """Characters of everything textual, the base of the estimate of its input tokens."""
        total = len(self.system_instruction) + len(self.response_schema)
        for message in self.messages:
            for part in message.parts:
                if isinstance(part, Text):
                    total += len(part.text)
                elif isinstance(part, ToolCall):
                    total += len(part.name) + len(part.arguments)
                elif isinstance(part, ToolResult):
                    total += len(part.name) + len(part.result)
        for tool in self.tools:
            total += len(tool.name) + len(tool.description) + len(tool.parameters)
        return total

    @property
    def media(self) -> int:
        """Number of images and the like."""
        return sum(1 for message in self.messages for part in message.parts if isinstance(part, Media))


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf and how urgently; `deadline` is on the event loop's clock, in seconds."""

    tenant_id: str
    deadline: float
    priority: Priority = "interactive"
    person_id: str = ""
