"""Ids in paths. What cannot be an id is answered as what does not exist."""

from __future__ import annotations

import re

from starlette.requests import Request

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import NotFound

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_CONVERSATION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?-" + _UUID)
_TURN = re.compile(_UUID)
_SECRET = re.compile(r"fs_[A-Za-z0-9_-]{20,100}")


def conversation_id_of(request: Request) -> str:
    """Raises NotFound (CONVERSATION_NOT_FOUND)."""
    value: str = request.path_params["conversation_id"]
    if _CONVERSATION.fullmatch(value) is None:
        raise NotFound("There is no such conversation.")
    return value


def turn_id_of(request: Request) -> str:
    """Raises NotFound (TURN_NOT_FOUND)."""
    value: str = request.path_params["turn_id"]
    if _TURN.fullmatch(value) is None:
        raise NotFound("There is no such turn in this conversation.", ErrorReason.ERROR_REASON_TURN_NOT_FOUND)
    return value


def share_id_of(request: Request) -> str:
    """Raises NotFound (SHARE_NOT_FOUND)."""
    value: str = request.path_params["share_id"]
    if _TURN.fullmatch(value) is None:
        raise _no_share()
    return value


def key_id_of(request: Request) -> str:
    """Raises NotFound (API_KEY_NOT_FOUND)."""
    value: str = request.path_params["key_id"]
    if _TURN.fullmatch(value) is None:
        raise NotFound("You have no such API key.", ErrorReason.ERROR_REASON_API_KEY_NOT_FOUND)
    return value


def secret_of(request: Request) -> str:
    """Raises NotFound (SHARE_NOT_FOUND)."""
    value: str = request.path_params["secret"]
    if _SECRET.fullmatch(value) is None:
        raise _no_share()
    return value


def _no_share() -> NotFound:
    return NotFound("There is no such link, or it was withdrawn.", ErrorReason.ERROR_REASON_SHARE_NOT_FOUND)
