"""The ledger's table (revision 0003_ledger)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import datetime

from services.session.ledger import Call, Used
from services.session.store.pool import Pool

_SECONDS = 10.0
# A year of a large tenant.
_SUM_SECONDS = 2.5
_LOCK = 4_173_908_266_513

_COLUMNS = ", ".join(field.name for field in fields(Call))
# A call that is booked stays as it is, but for an estimate whose real figures come late.
_ADD = f"""
INSERT INTO usage_events ({_COLUMNS})
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::timestamptz[])
ON CONFLICT (call_id) DO UPDATE SET
    outcome = excluded.outcome, prompt_tokens = excluded.prompt_tokens, cached_tokens = excluded.cached_tokens,
    output_tokens = excluded.output_tokens, thought_tokens = excluded.thought_tokens,
    cost_microusd = excluded.cost_microusd, at = excluded.at
WHERE usage_events.outcome = 'lost' AND excluded.outcome <> 'lost'
"""  # noqa: S608 -- put together of constants only
_USED = """
SELECT (at AT TIME ZONE 'UTC')::date AS day, model, tier, count(*) AS calls,
    count(*) FILTER (WHERE outcome = 'lost') AS estimated_calls,
    sum(prompt_tokens)::bigint AS prompt_tokens, sum(cached_tokens)::bigint AS cached_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(thought_tokens)::bigint AS thought_tokens,
    sum(cost_microusd)::bigint AS cost_microusd
FROM usage_events WHERE tenant_id = $1 AND at >= $2 AND at < $3
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


class PostgresBook:
    """`services.session.ledger.Book`. Raises Unavailable (STORE_UNAVAILABLE) alone."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, calls: Sequence[Call]) -> bool:
        """Books all of them or none, each once; False: another process is booking."""
        columns = zip(*map(astuple, calls), strict=True)
        async with self._pool.transaction(_SECONDS) as connection:
            # Two at once would do no harm, only the same work.
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                return False
            await connection.execute(_ADD, *columns)
        return True

    async def used(self, tenant_id: str, begin: datetime, end: datetime) -> Sequence[Used]:
        """By day, model and tier."""
        rows = await self._pool.rows(_USED, tenant_id, begin, end, timeout=_SUM_SECONDS)
        return [Used(**row) for row in rows]
