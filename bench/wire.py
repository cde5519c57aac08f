"""A loopback proxy before PostgreSQL that reads along and counts what crosses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 64 << 10
# Frontend messages (PostgreSQL's manual, "Message Formats"): Bind and Query run a statement; the
# server answers at Sync, Flush and Query, and the client waits for that.
_STATEMENTS = b"BQ"
_WAITS = b"SHQ"


class Wire:
    """`statements` and `round_trips` of all connections so far."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.statements = 0
        self.round_trips = 0
        self._target = target
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, target: int) -> AsyncIterator[Wire]:
        """Listens on a free port while the block runs."""
        wire = cls(target)
        server = await asyncio.start_server(wire._accepted, "127.0.0.1", 0)
        wire.port = server.sockets[0].getsockname()[1]
        try:
            yield wire
        finally:
            server.close()
            for task in wire._connections:
                task.cancel()
            await asyncio.gather(*wire._connections, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # Cancelled by `open` alone, and nobody waits for this task to hear of it.
            with suppress(OSError, asyncio.CancelledError):
                upstream, downstream = await asyncio.open_connection("127.0.0.1", self._target)
                ways = [
                    asyncio.create_task(self._count(reader, downstream)),
                    asyncio.create_task(_copy(upstream, writer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    downstream.close()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pending = bytearray()
        # The first message has no kind, only its length.
        started = False
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            pending += chunk
            while True:
                kind = 1 if started else 0
                if len(pending) < kind + 4:
                    break
                size = kind + int.from_bytes(pending[kind : kind + 4], "big")
                if len(pending) < size:
                    break
                if started:
                    self.statements += pending[0] in _STATEMENTS
                    self.round_trips += pending[0] in _WAITS
                started = True
                del pending[:size]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
