"""A proxy in front of PostgreSQL that pools by transaction, as PgBouncer does, and counts round trips.

By transaction: after every transaction the client gets another server connection, so that
whatever belongs to a connection is lost. By session: the client keeps one.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from devstack.postgres import Postgres

ROLE = "pooled"
_SSL_REQUEST = 80877103
_CANCEL_REQUEST = 80877102


@dataclass
class _Backend:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes
    key: bytes


@dataclass
class Pooler:
    """`trips` counts the times that a client has waited for an answer."""

    by_transaction: bool
    host: str
    port: int
    database: str
    trips: int = 0
    url: str = ""
    _free: deque[_Backend] = field(default_factory=deque)
    _clients: set[asyncio.Task[None]] = field(default_factory=set)

    async def open_backend(self) -> _Backend:
        """A server connection past its greeting."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        words = f"user\0{ROLE}\0database\0{self.database}\0\0".encode()
        writer.write(struct.pack("!II", len(words) + 8, 196608) + words)
        greeting, key = b"", b""
        while True:
            kind, body = await _frame(reader)
            assert kind != b"E", body
            if kind == b"S":
                greeting += _packed(kind, body)
            elif kind == b"K":
                key = body
            elif kind == b"Z":
                return _Backend(reader, writer, greeting, key)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes."""
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        mine: _Backend | None = None
        try:
            while True:
                (length,) = struct.unpack("!I", await reader.readexactly(4))
                (code,) = struct.unpack("!I", (await reader.readexactly(length - 4))[:4])
                if code == _CANCEL_REQUEST:
                    return
                if code != _SSL_REQUEST:
                    break
                writer.write(b"N")
            mine = await self.open_backend()
            key = struct.pack("!II", next(_numbers), 1) if self.by_transaction else mine.key
            writer.write(_packed(b"R", struct.pack("!I", 0)) + mine.greeting + _packed(b"K", key) + _packed(b"Z", b"I"))
            if self.by_transaction:
                self._free.append(mine)
                mine = None
            while await self._transaction(reader, writer, mine):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._clients.discard(task)
            writer.close()
            if mine is not None:
                mine.writer.close()

    async def _transaction(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mine: _Backend | None
    ) -> bool:
        """Passes messages on until the server is idle again."""
        frame = await _frame(reader)
        # The one used longest ago: never twice the same while there are others.
        backend = mine or self._free.popleft()
        try:
            while True:
                kind, body = frame
                if kind == b"X":
                    return False
                backend.writer.write(_packed(kind, body))
                if kind in (b"S", b"Q", b"H"):
                    self.trips += 1
                if kind in (b"S", b"Q") and await _answer(backend.reader, writer) == b"I":
                    return True
                if kind == b"H":
                    await _answer(backend.reader, writer, until=b"tTnE")
                frame = await _frame(reader)
        finally:
            if mine is None:
                self._free.append(backend)

    async def close(self) -> None:
        """Ends every connection."""
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for backend in self._free:
            backend.writer.close()
            with suppress(ConnectionError):
                await backend.writer.wait_closed()


_numbers = itertools.count(1)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: bytes = b"Z") -> bytes:
    """Passes the server's messages on up to one of these kinds, and gives its body."""
    while True:
        kind, body = await _frame(reader)
        writer.write(_packed(kind, body))
        # 't' (parameters) is followed by 'T' (columns) or 'n' (none).
        if kind in until and kind != b"t":
            return body


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


@asynccontextmanager
async def pooling(postgres: Postgres, database_url: str, *, by_transaction: bool) -> AsyncIterator[Pooler]:
    """A proxy before `database_url`; it gets in by a role of its own, without a password."""
    access = postgres.data / "pg_hba.conf"
    rule = f"host all {ROLE} 127.0.0.1/32 trust\n"
    if rule not in access.read_text():
        access.write_text(rule + access.read_text())
        postgres.execute(f"CREATE ROLE {ROLE} LOGIN; GRANT focus TO {ROLE}; SELECT pg_reload_conf()")
    where = urlsplit(database_url)
    assert where.hostname is not None
    assert where.port is not None
    pooler = Pooler(by_transaction, where.hostname, where.port, where.path.removeprefix("/"))
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    pooler.url = f"postgresql://{ROLE}@127.0.0.1:{server.sockets[0].getsockname()[1]}/{pooler.database}"
    try:
        while True:  # until the server has read the new rule
            try:
                (await pooler.open_backend()).writer.close()
                break
            except (AssertionError, asyncio.IncompleteReadError, ConnectionError):
                await asyncio.sleep(0.05)
        yield pooler
    finally:
        server.close()
        await pooler.close()
