"""Idempotency-Keys of stateless asks in PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

from services.session.asks import AskAttempt, WantedAsk
from services.session.model import Principal
from services.session.store.pool import Pool
from services.session.store.turns import RENEW, TurnRules

_BEGIN = "SELECT * FROM begin_ask($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_COMMIT = """
UPDATE idempotency_keys SET saved = COALESCE(saved, $4)
WHERE attempt_id = $1 AND tenant_id = $2 AND person_id = $3 AND conversation_id IS NULL RETURNING saved
"""
_ABANDON = """
DELETE FROM idempotency_keys
WHERE attempt_id = $1 AND tenant_id = $2 AND person_id = $3 AND conversation_id IS NULL AND saved IS NULL
"""


class PostgresAsks:
    """`services.session.asks.AskStore`. Raises Unavailable (STORE_UNAVAILABLE) alone."""

    def __init__(self, pool: Pool, rules: TurnRules) -> None:
        self._pool = pool
        self._ttl = rules.holder_ttl
        self._max_lease: timedelta = rules.max_lease
        self._key_life: timedelta = rules.key_life

    async def begin(self, wanted: WantedAsk) -> AskAttempt:
        """Takes the key if it is free."""
        row = await self._pool.row(
            _BEGIN,
            wanted.principal.tenant_id,
            wanted.principal.person_id,
            wanted.route,
            wanted.key,
            wanted.digest,
            wanted.holder_id,
            wanted.ask_id,
            self._max_lease,
            self._key_life,
        )
        assert row is not None
        return AskAttempt(row["status"], row["saved"] or b"", bool(row["holder_alive"]))

    async def commit(self, principal: Principal, ask_id: str, saved: bytes) -> bytes | None:
        """Saves an outcome once."""
        kept: bytes | None = await self._pool.value(_COMMIT, ask_id, principal.tenant_id, principal.person_id, saved)
        return kept

    async def abandon(self, principal: Principal, ask_id: str) -> bool:
        """Frees the key of an ask without an outcome."""
        tag = await self._pool.execute(_ABANDON, ask_id, principal.tenant_id, principal.person_id)
        return tag != "DELETE 0"

    async def renew(self, holder_id: str) -> None:
        """Keeps what the holder has."""
        await self._pool.execute(RENEW, holder_id, self._ttl)
