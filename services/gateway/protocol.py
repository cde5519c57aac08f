"""What uvicorn leaves open on a connection: deadlines for receiving, and a limit of the head.

It was seen to keep clients that trickle a head or a body for more than 92 s, so that a
few hundred of them hold every connection. A connection has `header_seconds` from its
opening, or from the first byte of its next request, until the head is complete; then
`body_seconds` until the body is. A client that leaves its answer unread for
`unread_seconds` is cut off.

httptools joins the pieces of a header field by copying, whatever their size: one client
that sent a field of 50 MB was seen to hold the loop, and so everybody, for 9 s. And it
skips the body of a request that wants to upgrade, so that what comes after the head is
taken for the next request.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import InvalidRequest
from services.gateway.problems import problem_of

_INVALID = ("400 Bad Request", "The request is not valid HTTP/1.1.")
_UPGRADE_WITH_BODY = ("400 Bad Request", "This server speaks HTTP/1.1 only: send the request without 'Upgrade'.")
_BODY_FIELDS = (b"content-length", b"transfer-encoding")


class DeadlineProtocol(HttpToolsProtocol):
    """HTTP/1.1 by httptools with deadlines; `with_limits` makes the class that uvicorn is given."""

    header_seconds: float
    body_seconds: float
    unread_seconds: float
    head_bytes: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._receiving: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._in_head = True
        # Bytes of this head that the parser has told, and bytes that it may hold back of a head,
        # a trailer or the line before a chunk.
        self._told = 0
        self._held = 0
        self._refusal = _INVALID

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self.header_seconds)

    def data_received(self, data: bytes) -> None:
        # The first bytes after an idle time, be they only line breaks: the next head has begun.
        if self._receiving is None and self._in_head:
            self._expect(self.header_seconds)
        self._held += len(data)
        super().data_received(data)
        if self._held > self.head_bytes and not self.transport.is_closing():
            self._refusal = self._too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        self._told = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._tell(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the head it is a trailer, which must not pass for a header (RFC 9110 section 6.5.1).
        if self._in_head:
            self._tell(len(name) + len(value))
            super().on_header(name, value)

    def _tell(self, size: int) -> None:
        self._told += size
        if self._told > self.head_bytes:
            self._stop_parser(self._too_large())

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and any(name in _BODY_FIELDS and value != b"0" for name, value in self.headers):
            self._stop_parser(_UPGRADE_WITH_BODY)
        self._in_head = False
        self._held = 0
        self._expect(self.body_seconds)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._held = 0

    def on_body(self, body: bytes) -> None:
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._held = 0
        self._relax()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._unread = self.loop.call_later(self.unread_seconds, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._relax()
        if self._answering and (self._in_head or self.cycle.response_started):
            self.transport.close()  # what comes next is garbage; an answer under way must not be mixed with ours
        else:
            self._refuse(*self._refusal)

    def _stop_parser(self, refusal: tuple[str, str]) -> NoReturn:
        """In a callback of the parser: it stops, and uvicorn calls `send_400_response`."""
        self._refusal = refusal
        raise ValueError(refusal[0])

    def _too_large(self) -> tuple[str, str]:
        if not self._in_head:
            return _INVALID
        return "431 Request Header Fields Too Large", f"The request's head is larger than {self.head_bytes} bytes."

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect(self, seconds: float) -> None:
        self._relax()
        self._receiving = self.loop.call_later(seconds, self._too_slow)

    def _relax(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _too_slow(self) -> None:
        self._receiving = None
        if self.transport.is_closing():
            return
        if self._in_head and self._answering:
            # Bytes of a next request came early: it has its time once this one is answered.
            self._expect(self.header_seconds)
        elif self._in_head or (self._answering and not self.cycle.response_started):
            self._refuse("408 Request Timeout", "The request did not arrive in time; send it in one go.")
        else:
            self.transport.close()

    def _refuse(self, status_line: str, message: str) -> None:
        """Answers where there is no request that a route could answer, and closes."""
        status = status_line.partition(" ")[0]
        problem = problem_of(
            InvalidRequest(message, ErrorReason.ERROR_REASON_BODY_MALFORMED, metadata={"status": status}), ""
        )
        head = b"".join(name + b": " + value + b"\r\n" for name, value in problem.headers)
        self.transport.write(
            b"HTTP/1.1 " + status_line.encode() + b"\r\n" + head + b"connection: close\r\n\r\n" + problem.body
        )
        self.transport.close()


def with_limits(
    *, header_seconds: float, body_seconds: float, unread_seconds: float, head_bytes: int
) -> type[DeadlineProtocol]:
    """The protocol with these deadlines, in seconds, and this limit of a request's head, its first line included."""
    limits = {
        "header_seconds": header_seconds,
        "body_seconds": body_seconds,
        "unread_seconds": unread_seconds,
        "head_bytes": head_bytes,
    }
    return type("ConfiguredProtocol", (DeadlineProtocol,), limits)
