"""Commands to one Valkey or to a cluster: which it is, is found out, not configured."""

from __future__ import annotations

import asyncio
import hashlib
from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.cache.valkey.connection import Address, Connection
from services.cache.valkey.wire import Argument, Refused, Unavailable
from services.common import logs

log = logs.get(__name__)

_SLOTS = 16_384
_REDIRECTS = 3
_LAYOUT_SECONDS = 1.0
# Answers that mean: the layout is not what we think, or the node cannot serve just now.
_MOVED = {"MOVED", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "LOADING"}


class Script:
    """Lua that touches keys of one slot only."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


def slot(name: bytes) -> int:
    """The cluster slot of a key: CRC16/XMODEM of what stands in the first braces (cluster specification)."""
    start = name.find(b"{")
    if start >= 0:
        end = name.find(b"}", start + 1)
        if end > start + 1:
            name = name[start + 1 : end]
    return crc_hqx(name, 0) % _SLOTS


class Client:
    """Sends each command to the server that owns its key. `budget`: seconds that a command may wait."""

    def __init__(self, seed: Address, budget: float) -> None:
        self._budget = budget
        self._seed = seed
        self._first = Connection(seed, budget)
        self._nodes: dict[Address, Connection] = {seed: self._first}
        self._owners: list[Connection] | None = None
        self._stale = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._follow_layout(), name="valkey layout")
        self._knows = asyncio.Event()

    async def ready(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until the layout is known and all its servers are connected."""
        try:
            async with asyncio.timeout(timeout):
                await self._knows.wait()
                opened = await asyncio.gather(*(node.opened(timeout) for node in self._serving()))
        except TimeoutError:
            return False
        return all(opened)

    @property
    def usable(self) -> bool:
        """False when some server does not answer."""
        return all(node.usable for node in self._serving())

    def _serving(self) -> set[Connection]:
        return {self._first} if self._owners is None else set(self._owners)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in self._nodes.values()))

    async def call(self, key: bytes, *arguments: Argument) -> Any:
        """One command on `key`. Raises Unavailable, or Refused for the server's own errors."""
        node = self._first if self._owners is None else self._owners[slot(key)]
        try:
            return await node.send(*arguments)
        except Refused as err:
            if err.code not in _MOVED and err.code != "ASK":
                raise
            return await self._redirected(err, arguments)
        except Unavailable:
            self._stale.set()  # a replica may have been promoted
            raise

    async def script(self, script: Script, keys: Sequence[bytes], *arguments: Argument) -> Any:
        """Runs a script on keys of one slot."""
        try:
            return await self.call(keys[0], b"EVALSHA", script.digest, len(keys), *keys, *arguments)
        except Refused as err:
            if err.code != "NOSCRIPT":
                raise
        return await self.call(keys[0], b"EVAL", script.text, len(keys), *keys, *arguments)

    async def _redirected(self, err: Refused, arguments: tuple[Argument, ...]) -> Any:
        for _ in range(_REDIRECTS):
            if err.code not in {"MOVED", "ASK"}:
                self._stale.set()
                raise Unavailable from err
            _, _, where = str(err).split(" ")[:3]
            host, _, port = where.rpartition(":")
            node = self._node(host or self._seed.host, int(port))
            await node.opened(self._budget)
            try:
                if err.code == "ASK":
                    asking = node.send("ASKING")
                    reply = node.send(*arguments)
                    await asyncio.gather(asking, reply, return_exceptions=True)
                    return await reply
                self._stale.set()
                return await node.send(*arguments)
            except Refused as another:
                if another.code not in _MOVED and another.code != "ASK":
                    raise
                err = another
        raise Unavailable from err

    def _node(self, host: str, port: int) -> Connection:
        address = replace(self._seed, host=host, port=port)
        if address not in self._nodes:
            self._nodes[address] = Connection(address, self._budget)
        return self._nodes[address]

    async def _follow_layout(self) -> None:
        """Learns the layout at the start and again when an answer did not fit to it, at most once a second."""
        while True:
            for node in list(self._nodes.values()):
                if await node.opened(_LAYOUT_SECONDS) and await self._learn(node):
                    break
            else:
                await asyncio.sleep(_LAYOUT_SECONDS / 4)
                continue
            self._knows.set()
            self._stale.clear()
            await self._stale.wait()
            await asyncio.sleep(_LAYOUT_SECONDS / 4)

    async def _learn(self, node: Connection) -> bool:
        try:
            ranges = await node.send("CLUSTER", "SLOTS")
        except Refused as err:
            single = "cluster support disabled" in str(err)
            if not single:
                log.warning("cannot learn the cluster's layout", error=str(err))
            return single
        except Unavailable:
            return False
        owners: list[Connection | None] = [None] * _SLOTS
        for first, last, master, *_ in ranges:
            host = master[0].decode() if master[0] else node.address.host
            owners[first : last + 1] = [self._node(host, master[1])] * (last + 1 - first)
        known = [owner for owner in owners if owner is not None]
        if not known:
            return False
        # A slot without owner answers an error of the server that is asked.
        self._owners = [owner or known[0] for owner in owners]
        for address, gone in list(self._nodes.items()):
            if gone not in self._serving() and gone is not self._first:
                del self._nodes[address]
                await gone.close()
        return True
