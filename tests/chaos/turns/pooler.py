"""PgBouncer with transaction pooling, where the machine has it (Debian's package `pgbouncer`)."""

from __future__ import annotations

import shutil
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from devstack import unprivileged
from devstack.ports import Port
from devstack.process import Process, Ready
from tests.chaos.turns.cluster import until_ready


def binary() -> str | None:
    """Where it is; None: not installed."""
    return shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")


@asynccontextmanager
async def pooled(folder: Path, database_url: str, *, connections: int = 4) -> AsyncIterator[str]:
    """The address of the same database behind a pooler with so few server connections."""
    program = binary()
    assert program is not None
    home = folder / f"pgbouncer-{uuid.uuid4().hex[:8]}"
    home.mkdir(mode=0o755)
    target, port = urlsplit(database_url), Port()
    (home / "users.txt").write_text(f'"{target.username}" "{target.password}"\n')
    (home / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"* = host=127.0.0.1 port={target.port} user={target.username} password={target.password}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port.number}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {home / 'users.txt'}\n"
        f"pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 200\n"
    )
    # It refuses to run as root.
    process = Process(
        "PgBouncer", [program, str(home / "pgbouncer.ini")], home / "log", {}, home, account=unprivileged.account()
    )
    url = urlunsplit(target._replace(netloc=f"{target.username}:{target.password}@{port.address}"))
    process.start()
    try:
        await until_ready(Ready(process, lambda: _listens(port.number)))
        yield url
    finally:
        process.stop()
        port.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
