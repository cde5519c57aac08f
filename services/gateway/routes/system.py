"""Probes, key sets, the API's description and what each problem means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import NotFound, Unavailable, reason_name
from services.gateway.problems import TABLE
from services.gateway.views import Json


class Readiness:
    """True between the start and the drain, whatever becomes of the other services:
    a shared dependency that is down must not take every gateway out of the balancer."""

    def __init__(self) -> None:
        self.ready = False


def add_system_routes(
    router: APIRouter,
    readiness: Readiness,
    public_keys: Callable[[], dict[str, list[dict[str, Any]]]],
    openapi: Callable[[], dict[str, Any]],
) -> None:
    described = {reason_name(reason).lower(): text for reason, text in TABLE.items()}

    @router.get("/healthz", include_in_schema=False)
    async def healthz(_request: Request) -> ASGIApp:
        return Json({"status": "ok"})

    @router.get("/readyz", include_in_schema=False)
    async def readyz(_request: Request) -> ASGIApp:
        if not readiness.ready:
            raise Unavailable("This server takes no new requests: it is starting or ending.", retry_after=1.0)
        return Json({"status": "ready"})

    @router.get("/.well-known/jwks.json", include_in_schema=False)
    async def jwks(_request: Request) -> ASGIApp:
        return Json(public_keys(), headers=[(b"access-control-allow-origin", b"*")])

    @router.get("/openapi.json", include_in_schema=False)
    async def described_api(_request: Request) -> ASGIApp:
        return Json(openapi())

    @router.get("/problems/{reason}", include_in_schema=False)
    async def problem(request: Request) -> ASGIApp:
        found = described.get(request.path_params["reason"])
        if found is None:
            raise NotFound("There is no such problem.", ErrorReason.ERROR_REASON_ROUTE_NOT_FOUND)
        status, title = found
        return PlainTextResponse(f"{title} (HTTP {status})\n")
