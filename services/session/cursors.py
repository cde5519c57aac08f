"""Page tokens: opaque to callers, and good only for the list that they came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from datetime import UTC, datetime

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import InvalidRequest


def encode(scope: str, *position: str | int | datetime) -> str:
    """A token for what follows `position` in the list named by `scope`."""
    fields = [value.isoformat() if isinstance(value, datetime) else value for value in position]
    raw = json.dumps([_tag(scope), *fields], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def decode(scope: str, token: str, *kinds: type) -> list[object]:
    """The position in a token, of these kinds; raises InvalidRequest (CURSOR_INVALID)."""
    try:
        fields = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        tag, *position = fields
        if tag != _tag(scope) or len(position) != len(kinds):
            raise _invalid()
        return [_read(value, kind) for value, kind in zip(position, kinds, strict=True)]
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise _invalid() from None


def page_size(wanted: int, *, default: int, most: int) -> int:
    """The size of a page; raises InvalidRequest."""
    if not 0 <= wanted <= most:
        raise InvalidRequest(f"page_size must be from 1 to {most}, or 0 for {default}.")
    return wanted or default


def _read(value: object, kind: type) -> object:
    if kind is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 1 << 62):
        raise _invalid()
    return value


def _tag(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:12]


def _invalid() -> InvalidRequest:
    return InvalidRequest(
        "The page token does not belong to this list; begin with the first page.",
        ErrorReason.ERROR_REASON_CURSOR_INVALID,
    )
