"""People in PostgreSQL: the only place that knows their tables (revision 0001_people)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from services.session.email_address import EmailAddress
from services.session.people import Account, ApiKey, Person, Reused, Rotated
from services.session.refresh_tokens import RefreshToken
from services.session.store.pool import Pool

_CREATE_PERSON = """
    WITH tenant AS (INSERT INTO tenants (name) VALUES (coalesce(nullif($4, ''), $1)) RETURNING id)
    INSERT INTO people (tenant_id, email, email_key, password_hash, display_name)
    SELECT id, $1, $2, $3, $4 FROM tenant
    RETURNING tenant_id, id
"""
_FIND_ACCOUNT = "SELECT tenant_id, id, password_hash FROM people WHERE email_key = $1"
_RENEW_DIGEST = "UPDATE people SET password_hash = $3 WHERE id = $1 AND password_hash = $2"
# Sweeps what the person's earlier sign-ins left behind; nobody else ever looks at it again.
_OPEN_FAMILY = """
    WITH swept AS (
        DELETE FROM refresh_families WHERE person_id = $2 AND (expires_at < now() OR revoked_at IS NOT NULL)
    )
    INSERT INTO refresh_families (id, person_id, token_hash, expires_at)
    SELECT $1, id, $3, now() + $4::interval FROM people WHERE id = $2
    RETURNING id
"""
# The compare-and-swap: of many at once one finds its token in token_hash.
_ROTATE = """
    UPDATE refresh_families AS family
    SET token_hash = $4, parent_hash = $2, parent_salt = $3, rotated_at = now(), expires_at = now() + $5::interval
    FROM people
    WHERE family.id = $1 AND family.token_hash = $2 AND family.revoked_at IS NULL AND family.expires_at > now()
      AND people.id = family.person_id
    RETURNING people.tenant_id, people.id
"""
# A statement of its own, after the one above: only so does it see what that one waited for.
_READ_FAMILY = """
    SELECT people.tenant_id, people.id, family.parent_salt, family.token_hash = $2 AS unused,
           coalesce(family.parent_hash = $2 AND family.rotated_at > now() - $3::interval, false) AS just_used
    FROM refresh_families AS family JOIN people ON people.id = family.person_id
    WHERE family.id = $1 AND family.revoked_at IS NULL AND family.expires_at > now()
"""
_REVOKE_FAMILY = "UPDATE refresh_families SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL"
# Two keys made at once are counted one after the other.
_LOCK_PERSON = "SELECT FROM people WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE"
_CREATE_API_KEY = """
    INSERT INTO api_keys (tenant_id, person_id, key_hash, label)
    SELECT $1, $2, $3, $4
    WHERE (SELECT count(*) FROM api_keys WHERE person_id = $2 AND revoked_at IS NULL) < $5
    RETURNING id
"""
_API_KEYS = """
    SELECT id, label, created_at, last_used_at FROM api_keys
    WHERE tenant_id = $1 AND person_id = $2 AND revoked_at IS NULL
    ORDER BY created_at DESC, id DESC
"""
_REVOKE_API_KEY = """
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = $1 AND person_id = $2 AND id = $3
    RETURNING id
"""
_USE_API_KEY = """
    UPDATE api_keys SET last_used_at = now() WHERE key_hash = $1 AND revoked_at IS NULL
    RETURNING tenant_id, person_id AS id
"""


class PostgresPeople:
    """The `PeopleStore` of a deployment."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create_person(self, email: EmailAddress, password_hash: str, display_name: str) -> Person | None:
        async with self._pool.connection() as connection:
            try:
                row = await connection.fetchrow(_CREATE_PERSON, email.text, email.key, password_hash, display_name)
            except asyncpg.UniqueViolationError as err:
                if err.constraint_name != "people_email_key_key":
                    raise
                return None
        return _person(row)

    async def find_account(self, email_key: str) -> Account | None:
        row = await self._pool.row(_FIND_ACCOUNT, email_key)
        return Account(_person(row), row["password_hash"]) if row else None

    async def renew_password_hash(self, person: Person, old: str, new: str) -> None:
        await self._pool.execute(_RENEW_DIGEST, uuid.UUID(person.person_id), old, new)

    async def open_family(self, person: Person, family: uuid.UUID, token_hash: bytes, lifetime: float) -> bool:
        opened = await self._pool.value(
            _OPEN_FAMILY, family, uuid.UUID(person.person_id), token_hash, timedelta(seconds=lifetime)
        )
        return opened is not None

    async def rotate(self, token: RefreshToken, salt: bytes, *, lifetime: float, grace: float) -> Rotated | None:
        digest, successor = token.digest, token.successor(salt).digest
        async with self._pool.connection() as connection:
            row = await connection.fetchrow(_ROTATE, token.family, digest, salt, successor, timedelta(seconds=lifetime))
            if row:
                return Rotated(_person(row), salt)
            row = await connection.fetchrow(_READ_FAMILY, token.family, digest, timedelta(seconds=grace))
            if row is None or row["unused"]:
                return None
            if row["just_used"]:
                return Rotated(_person(row), row["parent_salt"])
            await connection.execute(_REVOKE_FAMILY, token.family)
        raise Reused

    async def revoke_family(self, family: uuid.UUID) -> None:
        await self._pool.execute(_REVOKE_FAMILY, family)

    async def create_api_key(self, person: Person, key_hash: bytes, label: str, *, limit: int) -> str | None:
        tenant_id, person_id = uuid.UUID(person.tenant_id), uuid.UUID(person.person_id)
        async with self._pool.transaction() as connection:
            if await connection.fetchrow(_LOCK_PERSON, tenant_id, person_id) is None:
                raise LookupError(person.person_id)
            key_id = await connection.fetchval(_CREATE_API_KEY, tenant_id, person_id, key_hash, label, limit)
        return None if key_id is None else str(key_id)

    async def api_keys(self, person: Person) -> Sequence[ApiKey]:
        rows = await self._pool.rows(_API_KEYS, uuid.UUID(person.tenant_id), uuid.UUID(person.person_id))
        return [ApiKey(str(row["id"]), row["label"], row["created_at"], row["last_used_at"]) for row in rows]

    async def revoke_api_key(self, person: Person, key_id: str) -> bool:
        whose = uuid.UUID(person.tenant_id), uuid.UUID(person.person_id)
        return await self._pool.value(_REVOKE_API_KEY, *whose, uuid.UUID(key_id)) is not None

    async def use_api_key(self, key_hash: bytes) -> Person | None:
        row = await self._pool.row(_USE_API_KEY, key_hash)
        return _person(row) if row else None


def _person(row: asyncpg.Record | None) -> Person:
    assert row is not None
    return Person(str(row["tenant_id"]), str(row["id"]))
