"""Connections to PostgreSQL.

asyncpg's own pool is not used: it sends a reset query at every release, which costs
half as much as the call itself, and its bounds are per step. Here one time-out spans a
call's whole use of the database, waiting for a connection and connecting included.

A connection whose call was cut short is never used again: its late answer would reach
somebody else.

Named prepared statements save a round trip per statement but belong to a server
connection, and a transaction-pooling proxy changes that one between transactions. Such
a proxy is recognised by the backend's process id, which is not the one it announced.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import asyncpg

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import logs
from services.common.errors import Unavailable

log = logs.get(__name__)

# As text: asyncpg's class takes a parameter in its stubs only.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Prepared = Literal["auto", "on", "off"]

_STATEMENTS = 200
# What PostgreSQL answers when it cannot serve at all, whatever is asked: no database yet, shutting
# down or starting, too many connections, a standby, out of disk or memory, a schema not yet migrated.
_OUT_OF_ORDER = (
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)


def unavailable() -> Unavailable:
    """The store cannot be reached; whether the call's change was made is unknown."""
    return Unavailable(
        "The store of people and conversations cannot be reached right now; try again in a moment.",
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        retry_after=1.0,
    )


class Pool:
    """At most `size` connections, opened when needed and kept.

    Every method raises Unavailable (STORE_UNAVAILABLE) within `timeout` seconds when
    PostgreSQL is gone, frozen or every connection is in use; nothing has to be restarted
    when it is back. Opening a pool connects nowhere.
    """

    def __init__(self, url: str, *, size: int = 10, timeout: float = 0.9, prepared: Prepared = "auto") -> None:
        self._url = url
        self._size = size
        self._timeout = timeout
        self._named: bool | None = None if prepared == "auto" else prepared == "on"
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = 0
        self._closing: set[asyncio.Task[None]] = set()

    async def row(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row of one statement."""
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *args)

    async def rows(self, sql: str, *args: object, timeout: float | None = None) -> Sequence[asyncpg.Record]:
        """All rows of one statement; `timeout` replaces the pool's."""
        async with self.connection(timeout) as connection:
            return await connection.fetch(sql, *args)

    async def value(self, sql: str, *args: object, timeout: float | None = None) -> Any:
        """The first column of the first row."""
        async with self.connection(timeout) as connection:
            return await connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object, timeout: float | None = None) -> str:
        """Runs one statement and gives its command tag, such as `UPDATE 1`."""
        async with self.connection(timeout) as connection:
            return await connection.execute(sql, *args)

    @asynccontextmanager
    async def transaction(self, timeout: float | None = None) -> AsyncIterator[Connection]:
        """A connection inside a transaction. Never held while anything but PostgreSQL is waited for."""
        async with self.connection(timeout) as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:
        """A connection for `timeout` seconds at most."""
        try:
            async with asyncio.timeout(self._timeout if timeout is None else timeout):
                connection = await self._take()
                sound = False
                try:
                    yield connection
                    sound = True
                except asyncpg.PostgresError:
                    sound = True  # the server answered
                    raise
                except asyncpg.InterfaceError:
                    if connection.is_closed():
                        raise ConnectionResetError("the connection was lost") from None
                    raise
                finally:
                    self._give(connection, sound=sound)
        except _OUT_OF_ORDER as err:
            log.warning("PostgreSQL cannot serve", error=type(err).__name__, detail=str(err))
            raise unavailable() from None
        except (OSError, TimeoutError, asyncpg.InternalClientError) as err:
            # The last one: the server has said good-bye while nobody was listening.
            log.warning("PostgreSQL cannot be reached", error=type(err).__name__, detail=str(err))
            raise unavailable() from None

    async def close(self) -> None:
        """Closes what is idle; the calls that use the rest have ended by then."""
        for connection in self._idle:
            self._discard(connection)
        self._idle.clear()
        await asyncio.gather(*self._closing)

    async def _take(self) -> Connection:
        if self._taken >= self._size:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn  # the slot is handed over: _taken does not change
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._pass_on()  # it was handed over in the same moment
                raise
        else:
            self._taken += 1
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        try:
            return await self._connect()
        except BaseException:
            self._pass_on()
            raise

    def _give(self, connection: Connection, *, sound: bool) -> None:
        if sound and not connection.is_closed() and not connection.is_in_transaction():
            self._idle.append(connection)
        else:
            self._discard(connection)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    async def _connect(self) -> Connection:
        if self._named is None:
            probe = await asyncpg.connect(self._url, statement_cache_size=0)
            try:
                self._named = await probe.fetchval("SELECT pg_backend_pid()") == probe.get_server_pid()
            finally:
                self._discard(probe)
        return await asyncpg.connect(self._url, statement_cache_size=_STATEMENTS if self._named else 0)

    def _discard(self, connection: Connection) -> None:
        if connection.is_closed():
            return

        async def close() -> None:
            try:
                # Also tells the server to stop what it still does for the call that gave up.
                await connection.close(timeout=1.0)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                connection.terminate()

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
