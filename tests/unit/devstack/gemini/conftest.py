"""Emulators with the scripted backend, each on a free port of 127.0.0.1."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from devstack.gemini.app import serving
from devstack.gemini.emulator import Emulator
from devstack.gemini.scripted import ScriptedBackend
from devstack.gemini.settings import Settings
from tests.unit.devstack.gemini.caller import Caller

Start = Callable[..., Awaitable[Caller]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts emulators with settings of the test's choice; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(clock: Callable[[], float] | None = None, **settings: Any) -> Caller:
            values = {
                "backend": "scripted",
                "keys": {"a": ["key-a1", "key-a2"], "b": ["key-b1"]},
                "limits": {},
                **settings,
            }
            chosen = Settings(**values)
            emulator = Emulator(chosen, ScriptedBackend(), clock)
            url = await stack.enter_async_context(serving(chosen, emulator))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Caller(url, session)

        yield start


@pytest.fixture
async def gemini(start: Start) -> Caller:
    """An emulator without limits."""
    return await start()
