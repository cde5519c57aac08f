"""Sends an answer: whole, as server-sent events or as a JSON array, bent by the fault that struck the request.

Google's stream without ``alt=sse`` is one JSON array whose elements arrive one by one.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from aiohttp import web

from devstack.gemini import errors, render
from devstack.gemini.ask import Ask
from devstack.gemini.backend import Backend, Piece, Usage
from devstack.gemini.faults import Effect
from devstack.gemini.render import SSE_END

JSON_HEADERS = {"Content-Type": "application/json; charset=UTF-8"}
SSE_HEADERS = {"Content-Type": "text/event-stream"}
# Reasons after which Google sends the reason but no content; MAX_TOKENS and STOP keep theirs.
KEEP_CONTENT = {"STOP", "MAX_TOKENS"}

Send = Callable[[bytes], Awaitable[None]]


class Severed(Exception):
    """A fault cut the connection; there is nothing left to send."""


async def whole(request: web.Request, ask: Ask, backend: Backend, effect: Effect | None) -> tuple[web.Response, Usage]:
    """The unary answer and its usage. Raises Severed when a fault cuts the connection."""
    if effect is None:
        pieces = await backend.complete(ask)
        usage = pieces[0].usage if len(pieces) == 1 else _sum(pieces)
        body = render.response(pieces, render.usage_json(usage), ask.model, render.response_id())
        return web.Response(body=body, headers=JSON_HEADERS), usage
    await asyncio.sleep(effect.first_byte_delay or 0)
    if effect.hang or effect.hang_after_chunks is not None:
        await asyncio.Event().wait()
    if effect.cut_after_chunks is not None:
        _sever(request, effect.cut)
    pieces = await backend.complete(ask)
    if effect.tokens_per_second:
        await asyncio.sleep(sum(piece.tokens for piece in pieces) / effect.tokens_per_second)
    usage, rendered = _bent_usage(_sum(pieces), effect)
    identity = render.response_id()
    if effect.block_reason:
        body = render.blocked(effect.block_reason, rendered or b"{}", ask.model, identity)
    else:
        for piece in pieces:
            _bend(piece, effect, last=True)
        body = render.response(pieces, rendered, ask.model, identity)
    if effect.invalid_json:
        body = body[: len(body) // 2]
    return web.Response(body=body, headers=JSON_HEADERS), usage


async def streamed(
    request: web.Request, ask: Ask, backend: Backend, effect: Effect | None, *, sse: bool
) -> tuple[web.StreamResponse, Usage]:
    """The streamed answer, already sent, and its usage.

    Raises Severed when a fault cuts the connection, ConnectionError when the caller has left.
    """
    response = web.StreamResponse(headers=SSE_HEADERS if sse else JSON_HEADERS)
    identity = render.response_id()
    frame = _sse_frame if sse else _array_frame
    usage = Usage(ask.prompt_tokens)
    number = 0
    send = response.write if effect is None else _malforming(response, effect)
    async with contextlib.aclosing(_bent(request, backend.stream(ask), effect)) as pieces:
        async for piece in pieces:
            if not number:
                # Only now: an error before the first piece must still be able to become an HTTP error.
                await response.prepare(request)
            usage = piece.usage
            rendered: bytes | None
            if effect is None:
                rendered = render.usage_json(usage)
            else:
                usage, rendered = _bent_usage(usage, effect)
            if effect is not None and effect.block_reason:
                body = render.blocked(effect.block_reason, rendered or b"{}", ask.model, identity)
            else:
                body = render.response([piece], rendered, ask.model, identity)
            await send(frame(body, number))
            number += 1
    if not response.prepared:
        await response.prepare(request)
    if effect is not None and effect.error_after_chunks is not None and effect.status is not None:
        await response.write(frame(errors.by_status(effect.status).body.rstrip(), number))
        number += 1
    if not sse:
        await response.write(b"]" if number else b"[]")
    await response.write_eof()
    return response, usage


def _sse_frame(body: bytes, number: int) -> bytes:
    del number
    return b"data: " + body + SSE_END


def _array_frame(body: bytes, number: int) -> bytes:
    return (b",\r\n" if number else b"[") + body


async def _bent(request: web.Request, pieces: AsyncGenerator[Piece], effect: Effect | None) -> AsyncGenerator[Piece]:
    """The pieces, delayed, cut and changed as the fault wants it."""
    if effect is None:
        async for piece in pieces:
            yield piece
        return
    loop = asyncio.get_running_loop()
    await asyncio.sleep(effect.first_byte_delay or 0)
    due = loop.time()
    sent = 0
    async for piece in pieces:
        if effect.hang or effect.hang_after_chunks == sent:
            await asyncio.Event().wait()
        if effect.cut_after_chunks == sent:
            if effect.cut == "eof":
                return
            _sever(request, effect.cut)
        if effect.error_after_chunks == sent:
            return
        await asyncio.sleep(max(0.0, due - loop.time()))
        due += effect.chunk_delay or 0
        if effect.tokens_per_second:
            due += piece.tokens / effect.tokens_per_second
        last = piece.finish is not None
        _bend(piece, effect, last=last)
        sent += 1
        yield piece
        if effect.block_reason or (piece.finish is not None and not last):
            return
    if effect.cut_after_chunks == sent and effect.cut != "eof":
        _sever(request, effect.cut)


def _bend(piece: Piece, effect: Effect, *, last: bool) -> None:
    if effect.empty:
        piece.parts = b'[{"text":""}]'
    reason = effect.finish_reason
    if reason is None:
        return
    if reason not in KEEP_CONTENT:
        piece.parts = b""
        piece.finish = reason
    elif last:
        piece.finish = reason


def _bent_usage(usage: Usage, effect: Effect) -> tuple[Usage, bytes | None]:
    given = effect.usage
    if given is None:
        return usage, render.usage_json(usage)
    if given == "missing":
        return usage, None
    told = Usage(
        given.get("prompt", usage.prompt),
        given.get("candidates", usage.candidates),
        given.get("thoughts", usage.thoughts),
        given.get("cached", usage.cached),
    )
    return usage, render.usage_json(told, given.get("total"))


def _malforming(response: web.StreamResponse, effect: Effect) -> Send:
    """How chunks are written when the fault wants the framing bent."""

    async def broken_json(chunk: bytes) -> None:
        await response.write(chunk[: len(chunk) // 2] + SSE_END)

    async def garbage(chunk: bytes) -> None:
        await response.write(b"\x00\xff\xfe not an event\r\n" + chunk.replace(b"data: ", b"", 1))

    async def byte_by_byte(chunk: bytes) -> None:
        for at in range(len(chunk)):
            await response.write(chunk[at : at + 1])

    async def lf(chunk: bytes) -> None:
        await response.write(b": a comment\n" + chunk.replace(SSE_END, b"\n\n"))

    match effect.malformed_sse:
        case "broken_json":
            return broken_json
        case "garbage":
            return garbage
        case "byte_by_byte":
            return byte_by_byte
        case "lf":
            return lf
        case None:
            return response.write


def _sum(pieces: list[Piece]) -> Usage:
    first = pieces[0].usage
    return Usage(
        first.prompt,
        sum(piece.usage.candidates for piece in pieces),
        sum(piece.usage.thoughts for piece in pieces),
        first.cached,
    )


def _sever(request: web.Request, cut: str) -> None:
    """Ends the connection inside the body. Raises Severed."""
    transport = request.transport
    if transport is not None:
        if cut == "reset":
            transport.abort()
        else:
            transport.close()
    raise Severed
