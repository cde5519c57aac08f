"""What the caller's tenant has used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from starlette.requests import Request
from starlette.types import ASGIApp

from focus.session.v1 import usage_pb2
from services.gateway import negotiation
from services.gateway.bodies import read_query
from services.gateway.models import UsageQuery, UsageReportView
from services.gateway.openapi import described
from services.gateway.routes.entrance import Entrance
from services.gateway.session import Session
from services.gateway.views import Json, used_view

_DEFAULT_DAYS = 30


def add_usage_routes(router: APIRouter, entrance: Entrance, session: Session) -> None:
    @router.get(
        "/v1/usage",
        tags=["usage"],
        **described(
            "Tokens and costs of your tenant, by day, model and tier", answers=UsageReportView, query=UsageQuery
        ),
    )
    async def usage(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        query = read_query(request, UsageQuery)
        last = query.last or datetime.now(UTC).date().isoformat()
        first = query.first or (datetime.fromisoformat(last) - timedelta(days=_DEFAULT_DAYS - 1)).date().isoformat()
        asked = usage_pb2.GetUsageRequest(principal=principal.message(), from_day=first, to_day=last)
        found = await session.call(session.usage.GetUsage, asked)
        return Json(
            {
                "from": first,
                "to": last,
                "cost_microusd": found.cost_microusd,
                "used": [used_view(one) for one in found.used],
            }
        )
