"""Wires the emulator: backend, routes, error pages."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from devstack.gemini import control, delivery, errors, routes, wire
from devstack.gemini.backend import Backend
from devstack.gemini.emulator import Emulator
from devstack.gemini.routes import EMULATOR
from devstack.gemini.scripted import ScriptedBackend
from devstack.gemini.settings import Settings

log = logging.getLogger("devstack.gemini")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(emulator: Emulator) -> web.Application:
    """The application; closing it closes the backend."""
    # The body's own limit answers as Google does; aiohttp's must be above it.
    app = web.Application(client_max_size=wire.MAX_BODY_BYTES, middlewares=[_google_errors])
    app[EMULATOR] = emulator
    app.add_routes(routes.routes())
    app.add_routes(control.routes())

    async def close(_: web.Application) -> None:
        await emulator.backend.close()

    app.on_cleanup.append(close)
    return app


def make_backend(settings: Settings) -> Backend:
    """The backend that the settings name. The local one loads its model here, in about a second."""
    if settings.backend == "scripted":
        return ScriptedBackend()
    # Only who asks for it needs the packages of the local model.
    from devstack.gemini.local_model import LocalBackend

    return LocalBackend.load(threads=settings.local_threads, parallel=settings.local_parallel)


@asynccontextmanager
async def serving(settings: Settings, emulator: Emulator) -> AsyncIterator[str]:
    """Listens, and gives the base URL."""
    # Without handler_cancellation a caller that leaves would not stop the work for it.
    runner = web.AppRunner(build_app(emulator), handler_cancellation=True, access_log=None, shutdown_timeout=2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
        await site.start()
        port = runner.addresses[0][1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@web.middleware
async def _google_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Unknown paths and crashes answered as Google answers them."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return routes.not_found(request)
    except web.HTTPException:
        raise
    except Exception:
        log.exception("unexpected", extra={"path": request.path})
        if request.path.startswith("/_emulator/"):
            return web.Response(status=500, text=json.dumps({"error": "see the log"}), content_type="application/json")
        return web.Response(status=500, body=errors.internal().body, headers=delivery.JSON_HEADERS)
