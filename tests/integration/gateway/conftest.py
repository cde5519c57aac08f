"""A real gateway on a free port, before services in memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.gateway.app import gateway
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.services import services
from tests.unit.flow.fakes import World
from tests.unit.gateway.auth import forge


@dataclass
class Reached:
    """A running gateway as a client sees it."""

    world: World
    port: int
    http: aiohttp.ClientSession
    token: Callable[[str], str]

    @property
    def ada(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token('tenant-a')}"}

    @property
    def bob(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token('tenant-b')}"}

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, body (JSON where it is) and headers in small letters; by Ada unless headers say otherwise."""
        options.setdefault("headers", {})
        options["headers"] = {**self.ada, **options["headers"]}
        async with self.http.request(method, path, **options) as response:
            kind = response.headers.get("content-type", "")
            body = await response.json(content_type=None) if "json" in kind else await response.text()
            return response.status, body, {name.lower(): value for name, value in response.headers.items()}


Start = Callable[..., AbstractAsyncContextManager[Reached]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a gateway with these settings."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Reached]:
        key = forge.key()
        forge.publish(tmp_path / "jwks", "home", key)
        world = World()

        def token(tenant: str) -> str:
            now = int(time.time())
            return forge.token(key, body=forge.claims(tid=tenant, sub="p", iat=now, exp=now + 180))

        async with services(world) as target:
            settings = GatewaySettings(
                **{
                    "listen": "127.0.0.1:0",
                    "session_target": target,
                    "cache_target": target,
                    "llm_target": target,
                    "jwks_dir": tmp_path / "jwks",
                    "issuer": forge.ISSUER,
                    "audience": forge.AUDIENCE,
                    "stop_grace_seconds": 5,
                    "access_log": "none",
                    **changes,
                }
            )
            async with (
                gateway(settings) as running,
                aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as http,
            ):
                yield Reached(world, running.port, http, token)

    return start


@pytest.fixture
async def reached(start: Start) -> AsyncIterator[Reached]:
    async with start() as running:
        yield running
