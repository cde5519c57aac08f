"""Receive deadlines for uvicorn, which has none: it was seen to keep clients that trickle a
head or a body for more than 92 s, so that a few hundred of them hold every connection.

A connection has `header_seconds` from its opening, or from the first byte of its next
request, until the head is complete; then `body_seconds` until the body is. A client
that leaves its answer unread for `unread_seconds` is cut off.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import InvalidRequest
from services.gateway.problems import problem_of


class DeadlineProtocol(HttpToolsProtocol):
    """HTTP/1.1 by httptools with deadlines; `with_deadlines` makes the class that uvicorn is given."""

    header_seconds: float
    body_seconds: float
    unread_seconds: float

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._receiving: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self.header_seconds)

    def data_received(self, data: bytes) -> None:
        # The first bytes after an idle time, be they only line breaks: the next head has begun.
        if self._receiving is None and self._in_head:
            self._expect(self.header_seconds)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect(self.body_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
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
        if self._answering:
            self.transport.close()  # what comes next is garbage; an answer under way must not be mixed with ours
        else:
            self._refuse("400 Bad Request", "The request is not valid HTTP/1.1.", "400")

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
            self._refuse("408 Request Timeout", "The request did not arrive in time; send it in one go.", "408")
        else:
            self.transport.close()

    def _refuse(self, status_line: str, message: str, status: str) -> None:
        """Answers where there is no request that a route could answer, and closes."""
        problem = problem_of(
            InvalidRequest(message, ErrorReason.ERROR_REASON_BODY_MALFORMED, metadata={"status": status}), ""
        )
        head = b"".join(name + b": " + value + b"\r\n" for name, value in problem.headers)
        self.transport.write(
            b"HTTP/1.1 " + status_line.encode() + b"\r\n" + head + b"connection: close\r\n\r\n" + problem.body
        )
        self.transport.close()


def with_deadlines(header_seconds: float, body_seconds: float, unread_seconds: float) -> type[DeadlineProtocol]:
    """The protocol with these deadlines, in seconds."""
    return type(
        "ConfiguredProtocol",
        (DeadlineProtocol,),
        {"header_seconds": header_seconds, "body_seconds": body_seconds, "unread_seconds": unread_seconds},
    )
