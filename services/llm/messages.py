"""Protobuf messages to domain values and back; whatever is wrong with a prompt is said here."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from focus.chat.v1 import chat_pb2
from focus.chat.v1.chat_pb2 import Mode
from focus.llm.v1 import llm_pb2
from services.common.errors import InvalidRequest
from services.llm.answers import Answer, Delta, Escalated, Event, Waiting
from services.llm.catalogue import TIERS
from services.llm.prompt import (
    Media,
    Message,
    Part,
    Priority,
    Prompt,
    Role,
    SafetySetting,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

_ROLES: dict[chat_pb2.Role.ValueType, Role] = {chat_pb2.ROLE_USER: "user", chat_pb2.ROLE_MODEL: "model"}
_PRIORITIES: dict[llm_pb2.Priority.ValueType, Priority] = {
    llm_pb2.PRIORITY_BATCH: "batch",
    llm_pb2.PRIORITY_WARMING: "warming",
}
_MOST_TOOLS = 128
_LARGEST_MEDIA = 7 << 20
_TOOL_NAME = re.compile(r"^[A-Za-z_][\w.-]{0,63}$", re.ASCII)
_CACHE_NAME = re.compile(r"^[\w./-]{1,200}$", re.ASCII)
_MIME_TYPE = re.compile(r"^[\w.+-]{1,60}/[\w.+-]{1,60}$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a prompt may hold; `output_tokens` is used where the caller gives none (0: the model's own)."""

    input_tokens: int
    output_tokens: int


def to_prompt(given: llm_pb2.Prompt, bounds: Bounds) -> Prompt:
    """The prompt, checked. Raises InvalidRequest that names the field."""
    if not given.messages:
        raise InvalidRequest("prompt.messages is empty; give at least the question.", metadata={"field": "messages"})
    messages = [_message(message, index) for index, message in enumerate(given.messages)]
    if messages[-1].role != "user":
        raise InvalidRequest("The last of prompt.messages must be the user's.", metadata={"field": "messages"})
    if given.max_output_tokens < 0:
        raise InvalidRequest("prompt.max_output_tokens must not be negative.", metadata={"field": "max_output_tokens"})
    temperature = given.temperature if given.HasField("temperature") else None
    if temperature is not None and not 0 <= temperature <= 2:
        raise InvalidRequest("prompt.temperature must be from 0 to 2.", metadata={"field": "temperature"})
    if given.mode not in Mode.values():
        raise InvalidRequest("prompt.mode is not known.", metadata={"field": "mode"})
    if given.thinking_budget < -1:
        raise InvalidRequest("prompt.thinking_budget must be -1 or more.", metadata={"field": "thinking_budget"})
    if len(given.tools) > _MOST_TOOLS:
        raise InvalidRequest(f"prompt.tools holds more than {_MOST_TOOLS}.", metadata={"field": "tools"})
    if given.cached_content and not _CACHE_NAME.match(given.cached_content):
        raise InvalidRequest(
            "prompt.cached_content is not the name of a cache, such as cachedContents/abc.",
            metadata={"field": "cached_content"},
        )
    prompt = Prompt(
        messages,
        given.system_instruction,
        given.mode or Mode.MODE_AUTO,
        given.max_output_tokens or bounds.output_tokens,
        temperature,
        given.thinking_budget if given.HasField("thinking_budget") else None,
        _json_object(given.response_json_schema, "response_json_schema") if given.response_json_schema else "",
        [_tool(tool, index) for index, tool in enumerate(given.tools)],
        [SafetySetting(setting.category, setting.threshold) for setting in given.safety_settings],
        given.cached_content,
    )
    if prompt.characters // 4 > bounds.input_tokens:
        raise InvalidRequest(
            f"The prompt is longer than {bounds.input_tokens} tokens; shorten it.", metadata={"field": "messages"}
        )
    return prompt


def priority(given: llm_pb2.Prompt) -> Priority:
    """How urgent the prompt is."""
    return _PRIORITIES.get(given.priority, "interactive")


def _tool(given: llm_pb2.Tool, index: int) -> Tool:
    if not _TOOL_NAME.match(given.name):
        raise InvalidRequest(
            f"prompt.tools[{index}].name must be letters, digits, underscores, dots and dashes, at most 64.",
            metadata={"field": f"tools[{index}].name"},
        )
    schema = given.parameters_json_schema
    if schema:
        schema = _json_object(schema, f"tools[{index}].parameters_json_schema")
    return Tool(given.name, given.description, schema)


def _json_object(text: str, field: str) -> str:
    """The text, if it is a JSON object: it is embedded into the request to the provider as it stands."""
    try:
        tree = orjson.loads(text)
    except orjson.JSONDecodeError:
        tree = None
    if not isinstance(tree, dict):
        raise InvalidRequest(f"prompt.{field} must be a JSON object.", metadata={"field": field})
    return text


def _message(given: chat_pb2.Message, index: int) -> Message:
    role = _ROLES.get(given.role)
    field = f"messages[{index}]"
    if role is None:
        raise InvalidRequest(f"prompt.{field}.role must be user or model.", metadata={"field": f"{field}.role"})
    if not given.parts:
        raise InvalidRequest(f"prompt.{field}.parts is empty.", metadata={"field": f"{field}.parts"})
    return Message(role, [_part(part, f"{field}.parts") for part in given.parts])


def _part(given: chat_pb2.Part, field: str) -> Part:
    kind = given.WhichOneof("kind")
    if kind == "text":
        return Text(given.text)
    if kind == "media":
        if not _MIME_TYPE.match(given.media.mime_type):
            raise InvalidRequest(f"prompt.{field} holds media without a mime_type.", metadata={"field": field})
        if not 0 < len(given.media.data) <= _LARGEST_MEDIA:
            raise InvalidRequest(
                f"prompt.{field} holds media that are empty or larger than {_LARGEST_MEDIA >> 20} MiB.",
                metadata={"field": field},
            )
        return Media(given.media.mime_type, given.media.data)
    if kind == "tool_call":
        called = given.tool_call
        arguments = _json_object(called.arguments_json or "{}", f"{field}.tool_call.arguments_json")
        return ToolCall(called.name, arguments, called.call_id, called.signature)
    if kind == "tool_result":
        told = given.tool_result
        return ToolResult(told.name, _json_object(told.result_json, f"{field}.tool_result.result_json"), told.call_id)
    raise InvalidRequest(f"prompt.{field} holds a part without content.", metadata={"field": field})


def from_event(event: Event) -> llm_pb2.GenerateResponse:
    """One message of the stream."""
    if isinstance(event, Delta):
        delta = llm_pb2.GenerateResponse.Delta(text=event.text)
        if event.tool_calls:
            delta.tool_calls.extend(_tool_call(call) for call in event.tool_calls)
        return llm_pb2.GenerateResponse(delta=delta)
    if isinstance(event, Waiting):
        queued = llm_pb2.GenerateResponse.Queued(
            position=event.position, expected_wait_ms=max(0, round(event.seconds * 1000))
        )
        return llm_pb2.GenerateResponse(queued=queued)
    if isinstance(event, Escalated):
        escalated = llm_pb2.GenerateResponse.Escalated(
            confidence=event.confidence, threshold=event.threshold, model=event.model
        )
        return llm_pb2.GenerateResponse(escalated=escalated)
    finished = llm_pb2.GenerateResponse.Finished(answer=from_answer(event))
    return llm_pb2.GenerateResponse(finished=finished)


def from_answer(answer: Answer) -> chat_pb2.Answer:
    """The answer with how it came about."""
    usage = answer.usage
    return chat_pb2.Answer(
        text=answer.text,
        tier=TIERS[answer.tier],
        model=answer.model,
        confidence=answer.confidence,
        finish_reason=answer.finish_reason,
        usage=chat_pb2.Usage(
            prompt_tokens=usage.prompt,
            cached_tokens=usage.cached,
            output_tokens=usage.output,
            thought_tokens=usage.thoughts,
        ),
        cost_microusd=answer.cost,
        escalated=answer.escalated,
        tool_calls=[_tool_call(call) for call in answer.tool_calls],
    )


def _tool_call(call: ToolCall) -> chat_pb2.ToolCall:
    return chat_pb2.ToolCall(
        name=call.name, arguments_json=call.arguments, call_id=call.call_id, signature=call.signature
    )
