"""A loopback proxy that loses acknowledgements.

It stands between the clients and one session process. While it is told to, it lets a
commit's request pass, keeps the answer back, and then resets the connection, as a
network does that breaks at the worst moment.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 64 << 10
# Long enough for most commits to have happened, short enough for some not to.
_KEEP_BACK_SECONDS = (0.0, 0.03)
# SO_LINGER of zero seconds: closing sends a reset.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """One target. `losing` is the share of commits whose acknowledgement is lost; `lost` counts them."""

    def __init__(self, target: int, mark: bytes) -> None:
        self.port = 0
        self.losing = 0.0
        self.lost = 0
        self._target = target
        self._mark = mark
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Accepts connections while the block runs."""
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # Cancelled by `listening` alone, and nobody waits for this task to hear of it.
            with suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self._target)
        passing = asyncio.Event()
        passing.set()
        ways = [
            asyncio.create_task(self._up(reader, downstream, passing)),
            asyncio.create_task(_down(upstream, writer, passing)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, downstream):
                with suppress(OSError):
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
        while chunk := await reader.read(_CHUNK):
            losing = self._mark in chunk and random.random() < self.losing
            if losing:
                passing.clear()
            writer.write(chunk)
            await writer.drain()
            if losing:
                self.lost += 1
                await asyncio.sleep(random.uniform(*_KEEP_BACK_SECONDS))
                return


async def _down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
    while chunk := await reader.read(_CHUNK):
        await passing.wait()
        writer.write(chunk)
        await writer.drain()
