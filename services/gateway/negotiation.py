"""What a client wants to get and how it says that a request is a repeat."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

import orjson
from pydantic import BaseModel
from starlette.requests import Request

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import InvalidRequest

JSON = "application/json"
SSE = "text/event-stream"

# Printable ASCII, as a structured header's string could hold it.
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_Q = re.compile(r"\s*q\s*=\s*(\d(?:\.\d{0,3})?)\s*", re.IGNORECASE)


def json_or_events(request: Request) -> Literal["json", "sse"]:
    """By Accept (RFC 9110 section 12.5.1); JSON where both suit equally and events are not asked for by name.

    Raises InvalidRequest (NOT_ACCEPTABLE) when neither suits.
    """
    accept = _accept(request)
    if accept is None or accept in ("*/*", JSON):
        return "json"
    if accept == SSE:
        return "sse"
    weights = _weights(accept)
    json, events = _weight(weights, JSON), _weight(weights, SSE)
    if json == events == 0:
        raise _not_acceptable(f"{JSON} and {SSE}")
    if events > json or (events == json and SSE in weights and JSON not in weights):
        return "sse"
    return "json"


def require(request: Request, offered: str = JSON) -> None:
    """Raises InvalidRequest (NOT_ACCEPTABLE) unless the client takes what this route gives."""
    accept = _accept(request)
    if accept is None or accept in ("*/*", offered):
        return
    if _weight(_weights(accept), offered) == 0:
        raise _not_acceptable(offered)


def idempotency_key(request: Request) -> str:
    """The Idempotency-Key, or nothing. Raises InvalidRequest when it cannot be one."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return ""
    if len(keys) > 1 or _KEY.fullmatch(keys[0]) is None or not keys[0].strip():
        raise InvalidRequest(
            "Idempotency-Key must stand once and have 1 to 255 printable ASCII characters.",
            metadata={"field": "Idempotency-Key"},
        )
    return keys[0]


def digest(request: Request, body: BaseModel) -> bytes:
    """SHA-256 over method, path and the body as it was understood: what a repeat must have in common."""
    canonical = orjson.dumps(body.model_dump(), option=orjson.OPT_SORT_KEYS)
    head = f"{request.method} {request.scope['path']}\n".encode()
    return hashlib.sha256(head + canonical).digest()


def _accept(request: Request) -> str | None:
    """The field's lines as one list (RFC 9110 section 5.3)."""
    lines = request.headers.getlist("accept")
    return ",".join(lines) if lines else None


def _weights(accept: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for choice in accept.split(","):
        media_type, *parameters = choice.split(";")
        weight = 1.0
        for parameter in parameters:
            match = _Q.fullmatch(parameter)
            if match is not None:
                weight = min(float(match.group(1)), 1.0)
        weights[media_type.strip().lower()] = weight
    return weights


def _weight(weights: dict[str, float], media_type: str) -> float:
    """Of the most specific range that holds the type; 0: not wanted."""
    group = media_type.partition("/")[0]
    for wanted in (media_type, f"{group}/*", "*/*"):
        if wanted in weights:
            return weights[wanted]
    return 0.0


def _not_acceptable(offered: str) -> InvalidRequest:
    return InvalidRequest(
        f"This route answers {offered}; Accept must allow that.", ErrorReason.ERROR_REASON_NOT_ACCEPTABLE
    )
