"""A flight as server-sent events (WHATWG HTML section 9.2), or as one JSON answer.

Until something was sent a failure is a plain HTTP problem; after that it is an `error`
event. Whoever closes the connection leaves the flight, which decides by itself whether
it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import orjson
from starlette.types import Receive, Scope, Send

from services.common import context, logs
from services.common.errors import FocusError, Internal
from services.flow.events import Delta, Escalated, Event, Restarted
from services.flow.flight import Flight
from services.gateway.bodies import ClientGone
from services.gateway.problems import document
from services.gateway.views import Json, View

log = logs.get(__name__)

ResultT = TypeVar("ResultT")
Headers = Sequence[tuple[bytes, bytes]]

_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would collect the pieces.
    (b"x-accel-buffering", b"no"),
]
_HEARTBEAT = b": still here\n\n"


class Rendered:
    """A result as both kinds of response need it."""

    __slots__ = ("headers", "view")

    def __init__(self, view: View, headers: Headers) -> None:
        self.view = view
        self.headers = headers


async def as_json(
    flight: Flight[ResultT], render: Callable[[ResultT], Rendered], receive: Receive, headers: Headers
) -> Json:
    """The flight's result. Raises its failure, and ClientGone when nobody waits for it any more."""
    gone = asyncio.create_task(_until_gone(receive))
    try:
        await asyncio.wait((flight.task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not flight.done:
            raise ClientGone
        rendered = render(await flight.result())
    finally:
        gone.cancel()
        if not flight.done:
            flight.leave()
    return Json(rendered.view, headers=[*headers, *rendered.headers])


class EventStream(Generic[ResultT]):
    """An ASGI response: the flight's events as they come, then `done` or `error`.

    A comment every `heartbeat` seconds of silence keeps proxies from cutting the stream.
    """

    def __init__(
        self,
        flight: Flight[ResultT],
        render: Callable[[ResultT], Rendered],
        headers: Headers,
        *,
        heartbeat: float,
    ) -> None:
        self._flight = flight
        self._render = render
        self._headers = [*_HEADERS, *headers]
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_until_gone(receive))
        gone.add_done_callback(lambda _: self._flight.leave())
        try:
            await self._send(send, gone)
        finally:
            gone.cancel()
            if not self._flight.done:
                self._flight.leave()

    async def _send(self, send: Send, gone: asyncio.Task[None]) -> None:
        flight = self._flight
        events = await flight.next_events(self._heartbeat)
        told = _told(events, told=False)
        result: Rendered | None = None
        if flight.done and not events:
            result = self._render(await flight.result())
        elif gone.done():
            raise ClientGone
        headers = [*self._headers, *(self._coming() if result is None else result.headers)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while events or not flight.done:
            await send({"type": "http.response.body", "body": _encoded(events), "more_body": True})
            events = await flight.next_events(self._heartbeat)
            told = _told(events, told=told)
            if gone.done():
                return
        try:
            result = result or self._render(await flight.result())
            whole = result.view["answer"]
            last = b"" if told or not whole else event_bytes("delta", {"text": whole})
            last += event_bytes("done", result.view)
        except FocusError as err:
            last = _error(err)
        except Exception as err:
            log.error("a stream failed by a defect", exc_info=err)
            last = _error(Internal("Something went wrong inside the service; the request id finds it in the logs."))
        await send({"type": "http.response.body", "body": last})

    def _coming(self) -> Headers:
        """Of an answer that is sent while it is being made."""
        use = self._flight.course.cache
        return [(b"x-cache", use.encode())] if use is not None else ()


def _told(events: list[Event], *, told: bool) -> bool:
    """True when after these events the client has seen a part of the answer."""
    for event in events:
        told = isinstance(event, Delta) or (told and not isinstance(event, Restarted))
    return told


def event_bytes(name: str, data: dict[str, Any]) -> bytes:
    """One event; JSON has no line break, so the data is one line."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def _encoded(events: list[Event]) -> bytes:
    return b"".join(map(_event, events)) if events else _HEARTBEAT


def _event(event: Event) -> bytes:
    if isinstance(event, Delta):
        return event_bytes("delta", {"text": event.text})
    if isinstance(event, Escalated):
        told = {"confidence": event.confidence, "threshold": event.threshold, "model": event.model}
        return event_bytes("escalated", told)
    if isinstance(event, Restarted):
        return event_bytes("restarted", {})
    return event_bytes(
        "queued",
        {
            "waiting_for": event.waiting_for,
            "position": event.position,
            "expected_wait_ms": event.expected_wait_ms,
        },
    )


def _error(err: FocusError) -> bytes:
    call = context.current()
    return event_bytes("error", document(err, call.request_id if call is not None else ""))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
