"""The schema moves on while the version before it serves.

The version before is taken from the repository's history: the commit before the one
that added the newest revision. Where there is no history there is nothing to run, and
the test says so.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from devstack.services import ROOT
from devstack.valkey import Valkey
from services.session.migrate import head, migrate, migrate_patiently
from tests.chaos.turns import cluster, history
from tests.chaos.turns.history import Event, Tally
from tests.chaos.turns.stored import verdict

_TURNS = 150
# A heartbeat or a begin that meets the change's own lock on a busy machine.
_TOLERATED = 0.05


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


@pytest.fixture
def version_before(tmp_path: Path) -> Path:
    """A folder with `services` and `gen` as they were before the newest revision was added."""
    [newest] = (ROOT / "services/session/migrations/versions").glob(f"{head()}*.py")
    try:
        added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(newest)).decode().strip()
        archive = _git("archive", f"{added}^", "services", "gen")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the version before the newest revision is not in this copy's history")
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        # Our own archive; `filter` came with Python 3.11.4.
        packed.extractall(tmp_path)
    if not (tmp_path / "services/session/turns.py").exists():
        pytest.skip("the version before the newest revision had no turns yet")
    return tmp_path


def _migrate_with(source: Path, database_url: str) -> None:
    """Brings the schema to that version's own newest revision, by that version."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{source}:{source / 'gen'}",
        "FOCUS_SESSION_DATABASE_URL": database_url,
    }
    command = [sys.executable, "-m", "services.session.migrate"]
    subprocess.run(command, cwd=source, env=environment, check=True, timeout=60, capture_output=True)


async def _revision(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    try:
        return str(await connection.fetchval("SELECT version_num FROM alembic_version"))
    finally:
        await connection.close()


async def _load(
    scratch: Path, database_url: str, valkey: Valkey, source: Path | None, change: Callable[[], Awaitable[object]]
) -> list[Event]:
    """Turns before, during and after the change; all that the clients saw after it began."""
    async with cluster.running(scratch, database_url, valkey.url, sessions=2, source=source) as running:
        conversations = await running.conversations(12)
        for _ in range(2):
            running.start_client(conversations, keyed=0.0)
        tally = Tally(running.history)
        await tally.reach("ack", _TURNS // 3)
        before = sum(tally.count(kind) for kind in ("ack", "unknown"))
        await change()
        while sum(tally.count(kind) for kind in ("ack", "unknown")) < before + _TURNS:
            await tally.reach("invoke", tally.count("invoke") + 1)
        await running.stop_clients()
        return list(history.read(running.history))


def _failed(events: list[Event]) -> float:
    kinds = Counter(event.kind for event in events)
    return (kinds["unknown"] + kinds["lost"]) / kinds["invoke"]


async def test_the_version_before_serves_while_the_schema_moves_on(
    scratch: Path, empty_database_url: str, valkey: Valkey, version_before: Path
) -> None:
    _migrate_with(version_before, empty_database_url)
    old = await _revision(empty_database_url)
    events = await _load(scratch, empty_database_url, valkey, version_before, lambda: migrate(empty_database_url))
    new = await _revision(empty_database_url)
    found, stored = await verdict(empty_database_url, events)
    print(
        f"\n{old} -> {new} under the version before: {stored} turns stored, {_failed(events):.1%} of the turns failed"
    )
    assert (old, new) != (new, old)
    assert found == []
    assert _failed(events) <= _TOLERATED


async def test_the_new_version_serves_on_after_the_version_before(
    scratch: Path, empty_database_url: str, valkey: Valkey, version_before: Path
) -> None:
    """Both versions, one after the other, on the same conversations' rows."""
    _migrate_with(version_before, empty_database_url)
    before = await _load(scratch, empty_database_url, valkey, version_before, lambda: migrate(empty_database_url))
    after = await _load(scratch, empty_database_url, valkey, None, lambda: migrate(empty_database_url))
    found, _ = await verdict(empty_database_url, [*before, *after])
    assert found == []
    assert _failed(after) <= _TOLERATED


async def test_control_a_revision_that_breaks_its_rules_fails_the_load(
    scratch: Path, database_url: str, valkey: Valkey
) -> None:
    """Rule 2 of `services.session.migrate`: a function keeps its name."""

    async def rename() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute("ALTER FUNCTION begin_turn RENAME TO begin_turn_2")
        finally:
            await connection.close()

    events = await _load(scratch, database_url, valkey, None, rename)
    assert _failed(events) > _TOLERATED


async def test_a_migration_that_has_to_wait_lets_nobody_wait_for_it(
    scratch: Path, empty_database_url: str, valkey: Valkey, version_before: Path
) -> None:
    """Somebody reads for long (a backup): the change gives up, and who came after it in the queue goes on."""
    _migrate_with(version_before, empty_database_url)
    old = await _revision(empty_database_url)

    async def blocked() -> None:
        reader = await asyncpg.connect(empty_database_url)
        try:
            async with reader.transaction():
                await reader.execute("SELECT FROM holders, conversations, turns LIMIT 1")
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await migrate_patiently(empty_database_url, 5)
        finally:
            await reader.close()

    events = await _load(scratch, empty_database_url, valkey, version_before, blocked)
    assert await _revision(empty_database_url) == old
    assert _failed(events) <= _TOLERATED
    await migrate(empty_database_url)
