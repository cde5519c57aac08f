"""Session processes, proxies before them, and clients as processes of their own."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from devstack.home import Home
from devstack.process import Process, Ready, StartError, stop_together
from devstack.services import Making, Service
from focus.chat.v1 import chat_pb2
from focus.session.v1 import conversation_pb2, conversation_pb2_grpc
from services.common.rpc.client import open_channel
from services.session import signing_keys
from tests.chaos.turns import client
from tests.chaos.turns.client import Work
from tests.chaos.turns.proxy import Proxy

_READY_SECONDS = 60.0
# What turns under way take to end, and the holder to be released.
_LEAVE_SECONDS = 30.0


@dataclass(slots=True)
class Cluster:
    """The running parts. `history` is the folder of the clients' histories."""

    home: Home
    history: Path
    sessions: list[Service]
    proxies: list[Proxy]
    principal: chat_pb2.Principal
    clients: list[Process] = field(default_factory=list)
    # Killed ones too: a name, and so a file, belongs to one process.
    started: int = 0

    @property
    def target(self) -> str:
        """gRPC's name for all session processes, through their proxies."""
        return "ipv4:///" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies)

    async def conversations(self, number: int) -> list[str]:
        """New conversations of the principal."""
        channel = open_channel(self.sessions[0].address)
        stub = conversation_pb2_grpc.ConversationServiceStub(channel)
        made = []
        for _ in range(number):
            request = conversation_pb2.CreateConversationRequest(principal=self.principal)
            made.append((await stub.CreateConversation(request, timeout=10)).conversation.conversation_id)
        await channel.close()
        return made

    def start_client(self, conversations: list[str], **options: float) -> None:
        """One more client, or one in place of another. Returns before it works."""
        self.started += 1
        name = f"client-{self.started}"
        work = Work(
            name, self.target, self.principal.tenant_id, self.principal.person_id, conversations, str(self.history)
        )
        path = self.history / f"{name}.work"
        client.write(replace(work, **options), path)  # type: ignore[arg-type]
        made = Making(self.home, {}).process(name, "tests.chaos.turns.client", [str(path)])
        made.stop_seconds = _LEAVE_SECONDS
        made.start()
        self.clients.append(made)

    async def stop_clients(self) -> None:
        """They end their turns and leave."""
        for one in self.clients:
            one.ask_to_stop()
        await asyncio.to_thread(stop_together, self.clients)
        self.clients.clear()

    async def restart(self, service: Service) -> None:
        """Starts what was killed; returns when it is ready. The proxies go on meanwhile."""
        await until_ready(service.start())


@asynccontextmanager
async def running(
    folder: Path,
    database_url: str,
    valkey_url: str,
    *,
    sessions: int = 3,
    weakened: str = "",
    source: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Cluster]:
    """Session processes on a migrated database.

    `weakened` names a way of `tests.chaos.turns.weakened`; `source` is a folder with another
    version of `services` and `gen`.
    """
    home = Home(folder / f"cluster-{uuid.uuid4().hex[:8]}")
    home.prepare_folder()
    home.prepare()
    signing_keys.provide(home.signing_keys, home.jwks, "test")
    history = home.folder / "history"
    history.mkdir()
    principal = chat_pb2.Principal(tenant_id=str(uuid.uuid4()), person_id=str(uuid.uuid4()))
    making = Making(home, settings or {})
    services = [making.session(f"session-{n}", database_url, valkey_url) for n in range(1, sessions + 1)]
    if weakened:
        for one in services:
            one.process.command = [sys.executable, "-m", "tests.chaos.turns.weakened", weakened]
    if source is not None:
        for one in services:
            one.process.folder = source
            one.process.environment = {**one.process.environment, "PYTHONPATH": f"{source}:{source / 'gen'}"}
    proxies = [Proxy(one.port.number, client.MARK.encode()) for one in services]
    cluster = Cluster(home, history, services, proxies, principal)
    async with AsyncExitStack() as stack:
        for proxy in proxies:
            await stack.enter_async_context(proxy.listening())
        stack.callback(_end, cluster)
        starting = [one.start() for one in services]
        for ready in starting:
            await until_ready(ready)
        yield cluster


async def until_ready(ready: Ready) -> None:
    """As `devstack.process.wait_until_ready`, without standing in the event loop's way."""
    until = time.monotonic() + _READY_SECONDS
    while not await asyncio.to_thread(ready.reached):
        if time.monotonic() > until:
            raise StartError(ready.late(_READY_SECONDS))
        await asyncio.sleep(0.02)


def _end(cluster: Cluster) -> None:
    # What is left of them after a failure: nobody waits for their turns any more.
    for one in cluster.clients:
        one.kill()
    for service in cluster.sessions:
        service.process.kill()
        service.port.close()
