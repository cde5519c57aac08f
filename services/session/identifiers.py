"""Names of things: UUIDs as text, and "<region>-<UUID>" for conversations."""

from __future__ import annotations

import re

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import InvalidRequest, NotFound

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PLAIN = re.compile(f"{_UUID}\\Z")
_CONVERSATION = re.compile(f"([a-z][a-z0-9-]{{0,30}}[a-z0-9])-({_UUID})\\Z")


def is_uuid(text: str) -> bool:
    """True for a UUID in its usual form, in small letters."""
    return _PLAIN.match(text) is not None


def require_uuid(name: str, text: str) -> str:
    """The text if it is a UUID; raises InvalidRequest that names the field otherwise."""
    if _PLAIN.match(text) is None:
        raise InvalidRequest(f"{name} must be a UUID in small letters.", metadata={"field": name})
    return text


def split_conversation_id(text: str) -> tuple[str, str]:
    """Region and UUID of a conversation; raises NotFound for what cannot be one."""
    match = _CONVERSATION.match(text)
    if match is None:
        raise no_conversation()
    return match.group(1), match.group(2)


def no_conversation() -> NotFound:
    """The same for a conversation that never was and for somebody else's."""
    return NotFound("There is no such conversation.", ErrorReason.ERROR_REASON_CONVERSATION_NOT_FOUND)


def no_turn() -> NotFound:
    """The conversation has no such turn."""
    return NotFound("There is no such turn in this conversation.", ErrorReason.ERROR_REASON_TURN_NOT_FOUND)
