"""Reads Gemini's answers: a GenerateContentResponse, a stream of them, and error bodies.

Nothing here trusts the provider: a field of a wrong type counts as missing, and what is not JSON
is a broken stream.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from focus.chat.v1.chat_pb2 import FinishReason
from services.llm.prompt import ToolCall
from services.llm.providers.port import (
    Chunk,
    KeyRefused,
    ModelUnknown,
    Overloaded,
    ProviderError,
    QuotaRefused,
    RequestRefused,
    StreamBroken,
    Usage,
    Violation,
)

# An event of the stream may hold an inline image.
LARGEST_EVENT = 32 << 20

FINISH_REASONS: Mapping[str, FinishReason.ValueType] = {
    "STOP": FinishReason.FINISH_REASON_STOP,
    "MAX_TOKENS": FinishReason.FINISH_REASON_MAX_TOKENS,
    "SAFETY": FinishReason.FINISH_REASON_SAFETY,
    "IMAGE_SAFETY": FinishReason.FINISH_REASON_SAFETY,
    "RECITATION": FinishReason.FINISH_REASON_RECITATION,
    "IMAGE_RECITATION": FinishReason.FINISH_REASON_RECITATION,
    "BLOCKLIST": FinishReason.FINISH_REASON_PROHIBITED,
    "PROHIBITED_CONTENT": FinishReason.FINISH_REASON_PROHIBITED,
    "IMAGE_PROHIBITED_CONTENT": FinishReason.FINISH_REASON_PROHIBITED,
    "SPII": FinishReason.FINISH_REASON_PROHIBITED,
    "LANGUAGE": FinishReason.FINISH_REASON_LANGUAGE,
    "MALFORMED_FUNCTION_CALL": FinishReason.FINISH_REASON_MALFORMED_TOOL_CALL,
    "UNEXPECTED_TOOL_CALL": FinishReason.FINISH_REASON_MALFORMED_TOOL_CALL,
    "TOO_MANY_TOOL_CALLS": FinishReason.FINISH_REASON_MALFORMED_TOOL_CALL,
    "FINISH_REASON_UNSPECIFIED": FinishReason.FINISH_REASON_OTHER,
    "OTHER": FinishReason.FINISH_REASON_OTHER,
}
_BLOCK_REASONS: Mapping[str, FinishReason.ValueType] = {
    "SAFETY": FinishReason.FINISH_REASON_SAFETY,
    "IMAGE_SAFETY": FinishReason.FINISH_REASON_SAFETY,
    "OTHER": FinishReason.FINISH_REASON_OTHER,
}

_DURATION = re.compile(r"^(\d{1,9}(?:\.\d{1,9})?)s$")


class EventReader:
    """Server-sent events to their data, however the bytes are split (WHATWG HTML, 9.2)."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, raw: bytes) -> Iterator[bytes]:
        """The data of every event that `raw` completes. Raises StreamBroken for one that is too large."""
        raw = self._rest + raw if self._rest else raw
        lines = raw.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LARGEST_EVENT:
            raise StreamBroken("an event of the stream was too large")
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    self._data = []
                    yield data
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line.startswith((b":", b"event:", b"id:", b"retry:")):
                # Neither a field nor a comment: an error page, or bytes that were lost.
                raise StreamBroken("the stream was not readable")

    def finish(self) -> Iterator[bytes]:
        """The last event, if the stream ended without its blank line."""
        yield from self.feed(b"\n\n")


def decode(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises StreamBroken."""
    try:
        tree = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise StreamBroken("the provider's answer was not JSON") from None
    if not isinstance(tree, dict):
        raise StreamBroken("the provider's answer was not an object")
    return tree


def chunk(tree: Mapping[str, Any]) -> Chunk:
    """One GenerateContentResponse. Raises ProviderError where it is an error in the stream's middle."""
    if "error" in tree:
        raise error(0, tree)
    read = Chunk(usage=_usage(tree.get("usageMetadata")))
    candidates = tree.get("candidates")
    if isinstance(candidates, list) and candidates and isinstance(candidates[0], dict):
        candidate = candidates[0]
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        if isinstance(parts, list):
            _read_parts(parts, read)
        reason = candidate.get("finishReason")
        if isinstance(reason, str):
            read.finish_reason = FINISH_REASONS.get(reason, FinishReason.FINISH_REASON_OTHER)
        return read
    feedback = tree.get("promptFeedback")
    if isinstance(feedback, dict) and isinstance(feedback.get("blockReason"), str):
        read.finish_reason = _BLOCK_REASONS.get(feedback["blockReason"], FinishReason.FINISH_REASON_PROHIBITED)
    return read


def _read_parts(parts: list[Any], into: Chunk) -> None:
    texts = []
    calls = []
    for part in parts:
        if not isinstance(part, dict) or part.get("thought") is True:
            continue
        text = part.get("text")
        call = part.get("functionCall")
        if isinstance(text, str):
            texts.append(text)
        elif isinstance(call, dict) and isinstance(call.get("name"), str):
            arguments = call.get("args")
            calls.append(
                ToolCall(
                    call["name"],
                    orjson.dumps(arguments if isinstance(arguments, dict) else {}).decode(),
                    call["id"] if isinstance(call.get("id"), str) else "",
                    _signature(part.get("thoughtSignature")),
                )
            )
    into.text = texts[0] if len(texts) == 1 else "".join(texts)
    into.tool_calls = calls


def _signature(value: object) -> bytes:
    try:
        return base64.b64decode(value) if isinstance(value, str) else b""
    except binascii.Error:
        return b""


def _usage(tree: object) -> Usage | None:
    if not isinstance(tree, dict):
        return None

    def count(name: str) -> int:
        value = tree.get(name)
        return value if type(value) is int and 0 <= value < 1 << 40 else 0

    prompt = count("promptTokenCount") + count("toolUsePromptTokenCount")
    return Usage(
        prompt,
        min(count("cachedContentTokenCount"), prompt),
        count("candidatesTokenCount"),
        count("thoughtsTokenCount"),
    )


def error(status: int, tree: Mapping[str, Any]) -> ProviderError:
    """What an error body means. `status` 0: take the code from the body."""
    body = tree.get("error")
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        body = {}
    code = body.get("code")
    if not status:
        status = code if isinstance(code, int) else 500
    found = body.get("details")
    details = [detail for detail in found if isinstance(detail, dict)] if isinstance(found, list) else []
    if status == 429:
        return QuotaRefused(_violations(details), _retry_delay(details))
    if status in (401, 403):
        return KeyRefused(leaked=status == 403)
    if status == 404:
        return ModelUnknown()
    if status == 400 and any(detail.get("reason") == "API_KEY_INVALID" for detail in details):
        return KeyRefused()
    if 400 <= status < 500 and status not in (408, 499):
        return RequestRefused(status, _fields(details))
    return Overloaded(f"the provider answered {status}")


def _violations(details: list[dict[str, Any]]) -> list[Violation]:
    violations = []
    for detail in details:
        listed = detail.get("violations")
        if not str(detail.get("@type", "")).endswith("google.rpc.QuotaFailure") or not isinstance(listed, list):
            continue
        violations += [
            Violation(str(one.get("quotaId", "")), str(one.get("quotaMetric", "")), str(one.get("quotaValue", "")))
            for one in listed
            if isinstance(one, dict)
        ]
    return violations


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    for detail in details:
        if str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            match = _DURATION.match(str(detail.get("retryDelay", "")))
            if match is not None:
                return float(match[1])
    return None


def _fields(details: list[dict[str, Any]]) -> list[str]:
    fields = []
    for detail in details:
        listed = detail.get("fieldViolations")
        if isinstance(listed, list):
            fields += [str(one.get("field", ""))[:100] for one in listed if isinstance(one, dict)]
    return [field for field in fields if field][:5]
