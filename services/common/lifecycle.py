"""How a process runs: start what it needs, wait for a signal, end in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import uvloop

from services.common import logs, metrics
from services.common.settings import ServiceSettings


def run(service: str, settings: ServiceSettings, app: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
    """Runs `app` until SIGTERM or SIGINT. A second signal ends the process at once.

    `app` is an asynchronous context manager: everything that it opened is closed in
    reverse order, also when start-up fails half-way.
    """
    logs.configure(service, settings.log_level)
    with metrics.exposed(settings.metrics_listen):
        uvloop.run(_until_signal(app))


async def _until_signal(app: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with app():
        await stop.wait()
