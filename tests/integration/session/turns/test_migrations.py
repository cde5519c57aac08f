"""The schema's revisions: up from nothing, twice at once, down again, and only ever adding."""

from __future__ import annotations

import asyncio
import re

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from services.session import migrate
from services.session.migrate import LOCK_SECONDS, head, script


async def test_two_at_once_migrate_once(empty_database_url: str) -> None:
    """Both succeed; the second finds nothing to do."""
    found = await asyncio.gather(*(migrate.migrate(empty_database_url) for _ in range(3)))
    assert sorted(str(before) for before, _ in found) == sorted([head(), head(), "None"])
    assert {after for _, after in found} == {head()}


async def test_every_revision_follows_the_one_before(empty_database_url: str) -> None:
    """Step by step leads to the same schema as all at once."""
    revisions = [
        revision.revision for revision in reversed(list(ScriptDirectory.from_config(migrate.config()).walk_revisions()))
    ]
    current = None
    for revision in revisions:
        assert await migrate.migrate(empty_database_url, revision) == (current, revision)
        current = revision
    assert current == head()


async def test_failed_migration_changes_nothing(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE turns (mine int)")
    with pytest.raises(asyncpg.DuplicateTableError):
        await migrate.migrate(empty_database_url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row["tablename"] for row in tables] == ["turns"]
    await connection.close()


@pytest.mark.timeout(60)
async def test_migration_gives_up_rather_than_block_everybody(empty_database_url: str) -> None:
    """A table that somebody keeps locked: the revision's lock would make all others wait behind it."""
    await migrate.migrate(empty_database_url, "0001_people")
    connection = await asyncpg.connect(empty_database_url)
    async with connection.transaction():
        await connection.execute("LOCK TABLE alembic_version IN SHARE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await asyncio.wait_for(migrate.migrate(empty_database_url), LOCK_SECONDS + 30)
    await connection.close()
    assert (await migrate.migrate(empty_database_url))[1] == head()


def test_revisions_only_add() -> None:
    """Expand, then contract: what the version before uses stays (`migrate`'s rules)."""
    forbidden = re.compile(
        r"^\s*(DROP|ALTER TABLE \w+ (DROP|RENAME|ALTER COLUMN \w+ (SET NOT NULL|TYPE))|CREATE OR REPLACE)", re.MULTILINE
    )
    assert forbidden.search(script(None, head())) is None
