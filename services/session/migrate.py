"""`python -m services.session.migrate`: brings PostgreSQL's schema to the newest revision.

Safe when two run at once: an advisory lock lets the second one in when the first has
finished, and it then finds nothing to do. All revisions of one run are one transaction,
and the lock belongs to that transaction, so it also works behind a transaction pooler.

Rules for a revision, because the version before it serves meanwhile (expand, then contract):

1. It only adds: tables, columns that are nullable or have a constant default, indexes,
   functions with a new name. What the previous version reads and writes keeps its meaning.
2. A function whose parameters or result change gets a new name (`begin_turn_2`).
3. What nobody uses any more is dropped by a revision of a later release.
4. It holds no long lock. It gives up after `LOCK_SECONDS` of waiting for one, because all callers
   queue up behind a waiting revision; the command tries again for `PATIENCE_SECONDS`.
5. Large tables are filled by the service in small steps, not by the revision.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import sys
import time
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from services.common import logs, settings
from services.session.settings import DatabaseSettings

log = logs.get(__name__)

# Any number, the same for ever.
_LOCK = 4_173_908_266_511
# Well below the 0.9 s that a call may take, and the 2 s that a lease lives without a heartbeat.
LOCK_SECONDS = 0.3
PATIENCE_SECONDS = 60.0
# Between two tries the callers get through.
_PAUSE_SECONDS = (0.5, 1.5)


def config(output: io.StringIO | None = None) -> Config:
    """Where the revisions are; SQL goes to `output`."""
    chosen = Config(output_buffer=output or io.StringIO())
    chosen.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    chosen.set_main_option("path_separator", "os")
    return chosen


def head() -> str:
    """The newest revision in this source."""
    revision = ScriptDirectory.from_config(config()).get_current_head()
    assert revision is not None
    return revision


def script(current: str | None, target: str) -> str:
    """The SQL that leads from a revision (None: an empty database) to another."""
    output = io.StringIO()
    command.upgrade(config(output), f"{current}:{target}" if current else target, sql=True)
    return output.getvalue()


async def migrate(url: str, target: str | None = None) -> tuple[str | None, str]:
    """Migrates to `target` (the newest) and gives the revision found and the one reached.

    Raises OSError or asyncpg.PostgresError; the schema is then as it was.
    """
    target = target or head()
    connection = await asyncpg.connect(url, statement_cache_size=0, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
            known = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
            current = await connection.fetchval("SELECT version_num FROM alembic_version") if known else None
            if current != target:
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                await connection.execute(script(current, target))
        return current, target
    finally:
        await connection.close(timeout=5)


async def migrate_patiently(url: str, patience: float = PATIENCE_SECONDS) -> tuple[str | None, str]:
    """As `migrate`, tried again for `patience` seconds where a table is in use for long, as by a backup."""
    until = time.monotonic() + patience
    while True:
        try:
            return await migrate(url)
        except asyncpg.LockNotAvailableError:
            if time.monotonic() > until:
                raise
            log.info("a table is in use; the migration is tried again")
        await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311 - not a secret


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Brings PostgreSQL's schema to the newest revision.")
    parser.add_argument("--show", action="store_true", help="print the SQL for an empty database and do nothing")
    if parser.parse_args().show:
        sys.stdout.write(script(None, head()))
        return
    chosen = settings.load(DatabaseSettings)
    logs.configure("session-migrate", chosen.log_level)
    try:
        found, reached = asyncio.run(migrate_patiently(chosen.database_url))
    except asyncpg.LockNotAvailableError:
        raise SystemExit("the database was too busy to change a table; run the migration again") from None
    except (OSError, asyncpg.PostgresError) as err:
        raise SystemExit(f"the migration failed, the schema is as it was: {logs.redact_text(str(err))}") from None
    log.info("schema is up to date" if found == reached else "schema migrated", found=found or "", reached=reached)


if __name__ == "__main__":
    main()
