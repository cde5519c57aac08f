"""Routes that FastAPI describes and that cost what a plain ASGI call costs.

FastAPI's own handler solves dependencies and validates what it serialises; here the
routes read and write themselves (`bodies`, `views`), so that path is skipped. Measured
for a constant answer: 0.135 ms CPU with it, 0.07 ms without.
"""

from __future__ import annotations

from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Receive, Scope, Send


class DirectRoute(APIRoute):
    """Calls `endpoint(request)` and sends the response that it returns."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        endpoint = self.endpoint

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = app
