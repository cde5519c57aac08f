"""Errors as RFC 9457 problems: the one place that knows which HTTP status a reason has.

The `type` of a problem is `/problems/<reason>`, relative to the service; the gateway
describes each there. `detail` is the error's message, but for what must not differ:
an unknown conversation and another tenant's answer alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import orjson

from focus.errors.v1.reason_pb2 import ErrorReason as Reason
from services.common.errors import FocusError, reason_name

MEDIA_TYPE = b"application/problem+json"

# reason -> status, title
TABLE: dict[Reason.ValueType, tuple[int, str]] = {
    Reason.ERROR_REASON_UNSPECIFIED: (500, "Internal error"),
    Reason.ERROR_REASON_INVALID_ARGUMENT: (400, "Invalid request"),
    Reason.ERROR_REASON_BODY_MALFORMED: (400, "Body cannot be read"),
    Reason.ERROR_REASON_QUESTION_TOO_LONG: (413, "Question too long"),
    Reason.ERROR_REASON_CONVERSATION_NOT_FOUND: (404, "Conversation not found"),
    Reason.ERROR_REASON_TURN_NOT_FOUND: (404, "Turn not found"),
    Reason.ERROR_REASON_SHARE_NOT_FOUND: (404, "Shared conversation not found"),
    Reason.ERROR_REASON_CURSOR_INVALID: (400, "Invalid cursor"),
    Reason.ERROR_REASON_LIMIT_REACHED: (409, "Limit reached"),
    Reason.ERROR_REASON_ROUTE_NOT_FOUND: (404, "No such route"),
    Reason.ERROR_REASON_METHOD_NOT_ALLOWED: (405, "Method not allowed"),
    Reason.ERROR_REASON_NOT_ACCEPTABLE: (406, "Not acceptable"),
    Reason.ERROR_REASON_UNSUPPORTED_MEDIA_TYPE: (415, "Unsupported media type"),
    Reason.ERROR_REASON_API_KEY_NOT_FOUND: (404, "API key not found"),
    Reason.ERROR_REASON_CREDENTIALS_MISSING: (401, "Credentials missing"),
    Reason.ERROR_REASON_CREDENTIALS_INVALID: (401, "Credentials invalid"),
    Reason.ERROR_REASON_TOKEN_EXPIRED: (401, "Token expired"),
    Reason.ERROR_REASON_SIGN_IN_FAILED: (401, "Sign-in failed"),
    Reason.ERROR_REASON_EMAIL_TAKEN: (409, "E-mail address taken"),
    Reason.ERROR_REASON_PERMISSION_DENIED: (403, "Not allowed"),
    Reason.ERROR_REASON_REFRESH_TOKEN_REUSED: (401, "Refresh token reused"),
    Reason.ERROR_REASON_LEASE_LOST: (409, "Turn overtaken"),
    Reason.ERROR_REASON_TICKET_UNKNOWN: (409, "Place in the queue lost"),
    Reason.ERROR_REASON_CONVERSATION_BUSY: (409, "Conversation busy"),
    Reason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED: (422, "Idempotency-Key reused"),
    Reason.ERROR_REASON_IDEMPOTENCY_IN_PROGRESS: (409, "Still being answered"),
    Reason.ERROR_REASON_QUEUE_FULL: (429, "Too many are waiting"),
    Reason.ERROR_REASON_QUOTA_EXHAUSTED: (429, "Model quota exhausted"),
    Reason.ERROR_REASON_PROVIDER_UNAVAILABLE: (503, "Model unavailable"),
    Reason.ERROR_REASON_PROVIDER_KEY_INVALID: (503, "Model not configured"),
    Reason.ERROR_REASON_PROVIDER_REJECTED: (502, "Model refused the request"),
    Reason.ERROR_REASON_PROVIDER_STREAM_BROKEN: (502, "Answer broken off"),
    Reason.ERROR_REASON_ANSWER_BLOCKED: (422, "Answer withheld"),
    Reason.ERROR_REASON_MODEL_NOT_FOUND: (404, "No such model"),
    Reason.ERROR_REASON_DEADLINE_EXCEEDED: (504, "Out of time"),
    Reason.ERROR_REASON_STORE_UNAVAILABLE: (503, "Store unavailable"),
    Reason.ERROR_REASON_SERVICE_UNAVAILABLE: (503, "Service unavailable"),
    # nginx's number for a client that closed the request; seen in logs, and by who was stopped from elsewhere.
    Reason.ERROR_REASON_CANCELLED: (499, "Cancelled"),
    Reason.ERROR_REASON_INTERNAL: (500, "Internal error"),
    Reason.ERROR_REASON_NOT_CACHED: (504, "Not cached"),
    Reason.ERROR_REASON_RATE_LIMITED: (429, "Too many requests"),
    Reason.ERROR_REASON_OVERLOADED: (503, "Overloaded"),
}

_FIXED_DETAIL = {Reason.ERROR_REASON_CONVERSATION_NOT_FOUND: "There is no such conversation, or it is not yours."}

# Told in WWW-Authenticate (RFC 6750 section 3): a token was sent and is no good.
_BAD_TOKEN = {Reason.ERROR_REASON_CREDENTIALS_INVALID, Reason.ERROR_REASON_TOKEN_EXPIRED}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem, ready to be sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def status_of(err: FocusError) -> int:
    """The HTTP status of an error; `status` in its metadata says it more exactly (413, 408)."""
    exact = err.metadata.get("status")
    if exact is not None and exact.isdigit():
        return int(exact)
    return TABLE.get(err.reason, TABLE[Reason.ERROR_REASON_INTERNAL])[0]


def document(err: FocusError, request_id: str) -> dict[str, object]:
    """The problem's members (RFC 9457 section 3), with reason, request id and, where it helps, seconds to wait."""
    reason = reason_name(err.reason).lower()
    told: dict[str, object] = {
        "type": f"/problems/{reason}",
        "title": TABLE.get(err.reason, TABLE[Reason.ERROR_REASON_INTERNAL])[1],
        "status": status_of(err),
        "detail": _FIXED_DETAIL.get(err.reason, err.message),
        "reason": reason,
        "request_id": request_id,
    }
    if err.retry_after is not None:
        told["retry_after"] = _whole_seconds(err.retry_after)
    if "field" in err.metadata:
        told["field"] = err.metadata["field"]
    return told


def problem_of(err: FocusError, request_id: str) -> Problem:
    """The HTTP answer to an error."""
    body = orjson.dumps(document(err, request_id))
    status = status_of(err)
    headers = [
        (b"content-type", MEDIA_TYPE),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if err.retry_after is not None:
        headers.append((b"retry-after", str(_whole_seconds(err.retry_after)).encode()))
    if status == 401:
        challenge = b'Bearer realm="focus"'
        headers.append((b"www-authenticate", challenge + b', error="invalid_token"' * (err.reason in _BAD_TOKEN)))
    headers.extend((name.encode(), err.metadata[name].encode()) for name in ("allow", "accept") if name in err.metadata)
    if "replayed" in err.metadata:
        headers.append((b"idempotency-replayed", b"true"))
    return Problem(status, headers, body)


def _whole_seconds(seconds: float) -> int:
    """Retry-After counts whole seconds; at least one, so that nobody comes back at once."""
    return max(1, math.ceil(seconds))
