"""Protobuf messages to domain values and back; whatever is wrong with a prompt is said here."""

from __future__ import annotations

from dataclasses import dataclass

from focus.chat.v1 import chat_pb2
from focus.chat.v1.chat_pb2 import Mode
from focus.llm.v1 import llm_pb2
from services.common.errors import InvalidRequest
from services.llm.answers import Answer, Delta, Escalated, Event, Waiting
from services.llm.catalogue import TIERS
from services.llm.prompt import Message, Part, Priority, Prompt, Role, Text

_ROLES: dict[chat_pb2.Role.ValueType, Role] = {chat_pb2.ROLE_USER: "user", chat_pb2.ROLE_MODEL: "model"}


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
    prompt = Prompt(
        messages,
        given.system_instruction,
        given.mode or Mode.MODE_AUTO,
        given.max_output_tokens or bounds.output_tokens,
        temperature,
    )
    if prompt.characters // 4 > bounds.input_tokens:
        raise InvalidRequest(
            f"The prompt is longer than {bounds.input_tokens} tokens; shorten it.", metadata={"field": "messages"}
        )
    return prompt


def priority(given: llm_pb2.Prompt) -> Priority:
    """How urgent the prompt is."""
    return "interactive"


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
    raise InvalidRequest(f"prompt.{field} holds a part without content.", metadata={"field": field})


def from_event(event: Event) -> llm_pb2.GenerateResponse:
    """One message of the stream."""
    if isinstance(event, Delta):
        return llm_pb2.GenerateResponse(delta=llm_pb2.GenerateResponse.Delta(text=event.text))
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
    )
