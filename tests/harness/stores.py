"""PostgreSQL and Valkey for tests: one server of each per test process, clean for every test.

database_url          a fresh, migrated database for this test
module_database_url   the same for all tests of a module
empty_database_url    a fresh database without a schema
postgres              the server itself, for tests that disturb it
valkey, valkey_cache  the servers (`.url`), empty at the start of every test
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.postgres import OWNER, Postgres
from devstack.process import wait_until_ready
from devstack.valkey import Valkey

_TEMPLATE = "focus_template"
_numbers = itertools.count(1)


_KEPT_LOGS = Path(__file__).resolve().parents[2] / "build" / "test-logs"


@pytest.fixture(scope="session")
def scratch(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for servers' data; not pytest's own, which PostgreSQL's account could not enter.

    When tests failed, the servers' logs are kept in `build/test-logs/`.
    """
    folder = Path(tempfile.mkdtemp(prefix="focus-test-"))
    folder.chmod(0o755)
    yield folder
    if request.session.testsfailed:
        for log in folder.rglob("*.log"):
            kept = _KEPT_LOGS / folder.name / log.relative_to(folder)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(log, kept)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _postgres_server(scratch: Path) -> Iterator[Postgres]:
    server = Postgres(
        scratch / "postgres", scratch / "log" / "postgres.log", password=secrets.token_hex(16), durable=False
    )
    try:
        wait_until_ready([server.start()], timeout=60)
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres(_postgres_server: Postgres) -> Iterator[Postgres]:
    """The running server. A test may kill or pause it: it is put right for the next one."""
    yield _postgres_server
    if not _postgres_server.process.running:
        wait_until_ready([_postgres_server.start()], timeout=60)
    _postgres_server.process.resume()


@pytest.fixture(scope="session")
def _template(_postgres_server: Postgres) -> str:
    """Name of a migrated database that others are copied from; nobody stays connected to it."""
    _postgres_server.execute(f"CREATE DATABASE {_TEMPLATE} OWNER {OWNER}")
    subprocess.run(
        [sys.executable, "-m", "services.session.migrate"],
        env={**os.environ, "FOCUS_SESSION_DATABASE_URL": _postgres_server.url(_TEMPLATE)},
        check=True,
        timeout=60,
    )
    return _TEMPLATE


@contextmanager
def _database(server: Postgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    # WAL_LOG copies a small template without a checkpoint.
    server.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template} STRATEGY wal_log")
    yield server.url(name)
    if server.process.running:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def database_url(_postgres_server: Postgres, _template: str) -> Iterator[str]:
    """`postgresql://` address of a fresh database with the newest schema."""
    with _database(_postgres_server, _template) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(_postgres_server: Postgres, _template: str) -> Iterator[str]:
    """As `database_url`, one for the whole module."""
    with _database(_postgres_server, _template) as url:
        yield url


@pytest.fixture
def empty_database_url(_postgres_server: Postgres) -> Iterator[str]:
    """`postgresql://` address of a fresh database without a schema."""
    with _database(_postgres_server, "template0") as url:
        yield url


@pytest.fixture(scope="session")
def _valkey_servers(scratch: Path) -> Iterator[tuple[Valkey, Valkey]]:
    logs = scratch / "log"
    limits = Valkey("limits", scratch / "valkey-limits", logs / "valkey-limits.log")
    cache = Valkey("cache", scratch / "valkey-cache", logs / "valkey-cache.log")
    try:
        wait_until_ready([limits.start(), cache.start()], timeout=30)
        yield limits, cache
    finally:
        limits.stop()
        cache.stop()


def _clean(server: Valkey) -> Valkey:
    server.process.resume()
    if not server.process.running:
        wait_until_ready([server.start()], timeout=30)
    server.wipe()
    return server


@pytest.fixture
def valkey(_valkey_servers: tuple[Valkey, Valkey]) -> Valkey:
    """The limits' Valkey, empty; its address is `valkey.url`. A test may kill or pause it."""
    return _clean(_valkey_servers[0])


@pytest.fixture
def valkey_cache(_valkey_servers: tuple[Valkey, Valkey]) -> Valkey:
    """The cache's Valkey, empty; its address is `valkey_cache.url`. A test may kill or pause it."""
    return _clean(_valkey_servers[1])
