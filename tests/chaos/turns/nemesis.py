"""What goes wrong during a run: everything at random, each kind again and again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from devstack.valkey import Valkey
from tests.chaos.turns.cluster import Cluster, until_ready

# Longer than the 2 s that a lease outlives its holder's last heartbeat.
PAUSE_SECONDS = (2.5, 4.0)
_BETWEEN_SECONDS = (0.3, 1.0)
_LOST_ACKNOWLEDGEMENTS = 0.03
_CUT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"

Fault = Callable[[], Awaitable[None]]


class Nemesis:
    """Disturbs a cluster and its stores. `done` counts each kind, when it is over."""

    def __init__(
        self,
        cluster: Cluster,
        database_url: str,
        valkey: Valkey,
        replace_client: Callable[[], None],
    ) -> None:
        self.done: Counter[str] = Counter()
        self._cluster = cluster
        self._database_url = database_url
        self._valkey = valkey
        self._replace_client = replace_client
        # One of each row at a time, so that nothing is killed while it is paused.
        self._rows: list[list[Fault]] = [
            [self.pause_client, self.kill_client],
            [self.pause_session, self.kill_session],
            [self.cut_connections, self.wipe_valkey, self.pause_valkey, self.kill_valkey],
        ]

    @property
    def spared(self) -> list[str]:
        """Faults that have not happened yet."""
        counts = self.counts()
        return [name for name in self._names() if not counts[name]]

    def counts(self) -> Counter[str]:
        """How often each fault happened."""
        lost = sum(proxy.lost for proxy in self._cluster.proxies)
        return self.done + Counter({"lose_acknowledgement": lost})

    @asynccontextmanager
    async def disturbing(self) -> AsyncIterator[None]:
        """Faults while the block runs; afterwards everything runs again."""
        for proxy in self._cluster.proxies:
            proxy.losing = _LOST_ACKNOWLEDGEMENTS
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for row in self._rows:
                tasks.create_task(self._disturb(row, over))
            try:
                yield
            finally:
                # What is broken is mended by the fault itself before it ends.
                over.set()
                for proxy in self._cluster.proxies:
                    proxy.losing = 0.0

    async def pause_client(self) -> None:
        client = random.choice(self._cluster.clients)
        client.pause()
        try:
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
        finally:
            client.resume()

    async def kill_client(self) -> None:
        client = random.choice(self._cluster.clients)
        client.kill()
        self._cluster.clients.remove(client)
        self._replace_client()

    async def pause_session(self) -> None:
        process = random.choice(self._cluster.sessions).process
        process.pause()
        try:
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
        finally:
            process.resume()

    async def kill_session(self) -> None:
        service = random.choice(self._cluster.sessions)
        service.process.kill()
        await asyncio.sleep(random.uniform(0.0, 1.0))
        await self._cluster.restart(service)

    async def cut_connections(self) -> None:
        connection = await asyncpg.connect(self._database_url, timeout=10)
        try:
            await connection.fetchval(_CUT, self._database_url.rpartition("/")[2])
        finally:
            await connection.close(timeout=5)

    async def wipe_valkey(self) -> None:
        await asyncio.to_thread(self._valkey.wipe)

    async def pause_valkey(self) -> None:
        self._valkey.process.pause()
        try:
            await asyncio.sleep(random.uniform(0.5, 2.0))
        finally:
            self._valkey.process.resume()

    async def kill_valkey(self) -> None:
        self._valkey.process.kill()
        await asyncio.sleep(random.uniform(0.0, 1.0))
        await until_ready(self._valkey.start())

    async def _disturb(self, row: list[Fault], over: asyncio.Event) -> None:
        while True:
            for fault in random.sample(row, len(row)):
                try:
                    async with asyncio.timeout(random.uniform(*_BETWEEN_SECONDS)):
                        await over.wait()
                    return
                except TimeoutError:
                    pass
                await fault()
                self.done[fault.__name__] += 1

    def _names(self) -> list[str]:
        return [*(fault.__name__ for row in self._rows for fault in row), "lose_acknowledgement"]
