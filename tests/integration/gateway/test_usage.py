"""What a tenant has used, over HTTP."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from tests.integration.gateway.conftest import Reached


async def test_usage_is_told_for_the_days_that_were_asked_for(reached: Reached) -> None:
    status, body, headers = await reached.call("GET", "/v1/usage?from=2026-03-01&to=2026-03-31")
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert body == {
        "from": "2026-03-01",
        "to": "2026-03-31",
        "cost_microusd": 2**40,
        "used": [
            {
                "day": "2026-03-01",
                "model": "m",
                "tier": "senior",
                "calls": 3,
                "estimated_calls": 1,
                "usage": {"prompt_tokens": 31, "cached_tokens": 0, "output_tokens": 9, "thought_tokens": 0},
                "cost_microusd": 2**40,
            }
        ],
    }


async def test_without_days_it_is_the_last_thirty(reached: Reached) -> None:
    before = datetime.now(UTC).date()
    _, body, _ = await reached.call("GET", "/v1/usage")
    last = date.fromisoformat(body["to"])
    assert before <= last <= datetime.now(UTC).date()
    assert date.fromisoformat(body["from"]) == last - timedelta(days=29)
    _, body, _ = await reached.call("GET", "/v1/usage?to=2026-03-01")
    assert (body["from"], body["to"]) == ("2026-01-31", "2026-03-01")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-02-30", "from"),
        ("to=yesterday", "to"),
        ("from=1772366400", "from"),
        ("from=2026-03-02&to=2026-03-01", "to_day"),
        ("tenant_id=t", "tenant_id"),
    ],
)
async def test_days_that_are_none_are_refused(reached: Reached, query: str, field: str) -> None:
    status, body, _ = await reached.call("GET", f"/v1/usage?{query}")
    assert (status, body["reason"], body["field"]) == (400, "invalid_argument", field)


async def test_usage_is_for_who_is_known(reached: Reached) -> None:
    async with reached.http.get("/v1/usage") as response:
        assert response.status == 401
