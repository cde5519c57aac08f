"""A connection to one Valkey server that is opened again whenever it breaks or falls silent."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from services.cache.valkey.wire import Argument, Refused, Unavailable, Wire
from services.common import logs

log = logs.get(__name__)

_CONNECT_SECONDS = 1.0
_PAUSE_SECONDS = 0.25
# Silent for so long although replies are due: the packets may be going nowhere.
_SILENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how it lets us in."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    database: int = 0
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Address:
        """`redis[s]://[user:password@]host[:port][/db]` (or valkey://). Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in {"redis", "rediss", "valkey", "valkeys"} or not parts.hostname:
            raise ValueError("is not redis://host:port/db")
        return cls(
            host=parts.hostname,
            port=parts.port or 6379,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=int(parts.path.strip("/") or 0),
            tls=parts.scheme in {"rediss", "valkeys"},
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Connection:
    """Tries to be open from its making until `close`; breaks are healed within about a second."""

    def __init__(self, address: Address, budget: float) -> None:
        self.address = address
        self._budget = budget
        self._tls = ssl.create_default_context() if address.tls else None
        self._wire: Wire | None = None
        self._opened = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._stay_open(), name=f"valkey {address}")

    @property
    def usable(self) -> bool:
        """False when a command would fail at once."""
        return self._wire is not None and self._wire.usable

    def send(self, *arguments: Argument) -> asyncio.Future[Any]:
        """As `Wire.send`."""
        if self._wire is None:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            future.set_exception(Unavailable())
            return future
        return self._wire.send(*arguments)

    async def opened(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the connection to be open."""
        try:
            await asyncio.wait_for(self._opened.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _stay_open(self) -> None:
        told = ""
        while True:
            wire: Wire | None = None
            try:
                wire = await self._open()
                self._wire = wire
                self._opened.set()
                if told:
                    log.info("connected to Valkey again", address=str(self.address))
                await self._watch(wire)
                told = "lost"
                log.warning("connection to Valkey lost", address=str(self.address))
            except (OSError, TimeoutError, Unavailable, Refused) as err:
                why = str(err) if isinstance(err, Refused) else type(err).__name__
                if told != why:
                    log.warning("no connection to Valkey", address=str(self.address), error=why)
                told = why
            finally:
                self._wire = None
                self._opened.clear()
                if wire is not None:
                    wire.abort()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _open(self) -> Wire:
        loop, address = asyncio.get_running_loop(), self.address
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, wire = await loop.create_connection(
                lambda: Wire(self._budget), address.host, address.port, ssl=self._tls
            )
            try:
                if address.password:
                    await wire.send("AUTH", *((address.username,) if address.username else ()), address.password)
                if address.database:
                    await wire.send("SELECT", address.database)
                await wire.send("PING")
            except BaseException:
                wire.abort()
                raise
            return wire

    async def _watch(self, wire: Wire) -> None:
        """Returns when the connection broke, or stayed silent although replies were due."""
        while wire.silent_seconds() < _SILENCE_SECONDS:
            try:
                await asyncio.wait_for(wire.lost.wait(), _PAUSE_SECONDS)
                return
            except TimeoutError:
                if wire.blocked:
                    wire.probe()
