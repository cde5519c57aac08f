"""What every log line and every onward call of a request carries.

The trace follows W3C Trace Context (`traceparent`). Unless a client sends its own
`X-Request-Id`, the request id is the trace id, so that one metadata item is enough.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

TRACEPARENT = "traceparent"
REQUEST_ID = "x-request-id"

# Version 00: 16 bytes of trace id, 8 of span id, flags; all-zero ids are invalid.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_REQUEST_ID = re.compile(r"[\w.:+/=-]{1,128}", re.ASCII)


@dataclass(slots=True)
class CallContext:
    """One request, as the logs know it."""

    request_id: str
    trace_id: str
    tenant_id: str = ""


_current: ContextVar[CallContext | None] = ContextVar("focus_call", default=None)


def current() -> CallContext | None:
    """The call being served, if any."""
    return _current.get()


def bind(request_id: str | None = None, traceparent: str | None = None, tenant_id: str = "") -> CallContext:
    """Makes the current task serve this call. Malformed ids are replaced, never passed on."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    trace_id = match.group(1) if match else secrets.token_hex(16)
    if request_id is None or not _REQUEST_ID.fullmatch(request_id):
        request_id = trace_id
    call = CallContext(request_id, trace_id, tenant_id)
    _current.set(call)
    return call


def outgoing_metadata() -> tuple[tuple[str, str], ...]:
    """gRPC metadata that carries the current call onward; each hop is a span of its own."""
    call = _current.get()
    if call is None:
        return ()
    traceparent = (TRACEPARENT, f"00-{call.trace_id}-{secrets.token_hex(8)}-01")
    if call.request_id == call.trace_id:
        return (traceparent,)
    return (traceparent, (REQUEST_ID, call.request_id))
