"""One pipelined connection to the limits' Valkey.

redis-py costs 0.12-0.22 ms of CPU a command; a bare pipeline with hiredis a tenth of that. And the
quota needs to know what a pool of connections hides: whether the server behind the address is still
the one it spoke to before. Each connection asks for the server's run id first; a restarted server,
or another one that took over, has a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import hiredis

Word = bytes | str | int | float


class Unreachable(Exception):
    """The server cannot be reached now. `gone`: it said so itself or refused, so nobody can be using it."""

    def __init__(self, what: str, *, gone: bool) -> None:
        super().__init__(what)
        self.gone = gone


class ScriptMissing(Exception):
    """The server does not hold the script."""


class CommandFailed(Exception):
    """The server refused a command: a defect, or a full memory."""


def encode(words: Sequence[Word]) -> bytes:
    """A command in RESP2."""
    # hiredis' stub says one word only.
    encoded: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]
    return encoded


class Connection(asyncio.Protocol):
    """Commands written in one turn of the loop go out in one packet; replies come in order."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.WriteTransport | None = None
        self._outgoing: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.closed = False
        self.run_id = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while True:
            try:
                reply = self._reader.gets()
            except hiredis.ProtocolError:
                self.close()
                return
            if reply is _NOTHING:
                return
            if not self._waiting:
                self.close()
                return
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(Unreachable("the connection to Valkey broke", gone=True))

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def send(self, command: bytes) -> asyncio.Future[Any]:
        """The reply to come; awaiting it may raise Unreachable."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.closed:
            future.set_exception(Unreachable("the connection to Valkey is closed", gone=True))
            return future
        self._waiting.append(future)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(command)
        return future

    def _flush(self) -> None:
        data = self._outgoing[0] if len(self._outgoing) == 1 else b"".join(self._outgoing)
        self._outgoing = []
        if self._transport is not None and not self.closed:
            self._transport.write(data)


class _Nothing:
    pass


_NOTHING = _Nothing()


async def call(connection: Connection, words: Sequence[Word], timeout: float) -> Any:
    """One command. Raises Unreachable, ScriptMissing or CommandFailed."""
    future = connection.send(encode(words))
    if not future.done():
        # Cheaper than a context manager around the await, on a path that every question takes twice.
        timer = asyncio.get_running_loop().call_later(timeout, _expire, future, connection)
        try:
            reply = await future
        finally:
            timer.cancel()
    else:
        reply = await future
    if isinstance(reply, hiredis.ReplyError):
        text = str(reply)
        if text.startswith("NOSCRIPT"):
            raise ScriptMissing
        if text.startswith(("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOREPLICAS")):
            raise Unreachable("Valkey does not serve yet", gone=not text.startswith("BUSY"))
        raise CommandFailed(text.split("\n")[0][:200])
    return reply


def _expire(future: asyncio.Future[Any], connection: Connection) -> None:
    if not future.done():
        future.set_exception(Unreachable("Valkey did not answer in time", gone=False))
        # Replies are matched by their order: a late one must not meet the next command.
        connection.close()


async def connect(url: str, timeout: float) -> Connection:
    """A connection that knows its server's run id. Raises Unreachable or CommandFailed."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 6379
    try:
        async with asyncio.timeout(timeout):
            _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    except ConnectionRefusedError:
        raise Unreachable("Valkey refuses connections", gone=True) from None
    except TimeoutError:
        raise Unreachable("Valkey did not answer in time", gone=False) from None
    except OSError:
        raise Unreachable("Valkey cannot be reached", gone=False) from None
    try:
        if parts.password:
            user = (unquote(parts.username),) if parts.username else ()
            await call(connection, ("AUTH", *user, unquote(parts.password)), timeout)
        if parts.path.strip("/"):
            await call(connection, ("SELECT", parts.path.strip("/")), timeout)
        info = await call(connection, ("INFO", "server"), timeout)
    except BaseException:
        connection.close()
        raise
    for line in bytes(info).decode().splitlines():
        if line.startswith("run_id:"):
            connection.run_id = line.removeprefix("run_id:").strip()
    return connection
