"""The folder that a stack keeps everything in: `.focus`, or $FOCUS_HOME.

postgres/  valkey-limits/  valkey-cache/    data
secrets/                                    passwords and keys of this stack (0700)
log/                                        one file a process
dev.env                                     URL and demo credentials, for scripts (0600)
lock                                        held while anything of a stack runs
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from devstack.process import StartError

_NEEDED_BYTES = 500 << 20
_DATA = ("postgres", "postgres.unfinished", "valkey-limits", "valkey-cache", "secrets", "dev.env")
# What a killed stack's children need to end: PostgreSQL at most five seconds.
_LEFTOVER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one folder."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def dev_env(self) -> Path:
        return self.folder / "dev.env"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def signing_keys(self) -> Path:
        return self.secrets / "signing"

    @property
    def jwks(self) -> Path:
        return self.secrets / "jwks"

    @property
    def cache_secrets(self) -> Path:
        return self.secrets / "cache"

    def prepare_folder(self) -> None:
        """Makes the folder, if it is missing. Raises StartError when the disk is full."""
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            # PostgreSQL's account must get in; what is secret has a folder of its own.
            self.folder.chmod(0o755)
        free = shutil.disk_usage(self.folder).free
        if free < _NEEDED_BYTES:
            raise StartError(
                f"The disk is full: {free >> 20} MB are free where {self.folder} lies and"
                f" {_NEEDED_BYTES >> 20} MB are needed; free some, or choose another folder with FOCUS_HOME"
            )

    def prepare(self) -> None:
        """Makes what is secret, where missing."""
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.signing_keys, self.jwks, self.cache_secrets):
            folder.mkdir(exist_ok=True)
        self.secret(self.cache_secrets / "hmac")

    def postgres_password(self) -> str:
        """The database's password; made with the data."""
        path = self.secrets / "postgres"
        if not path.exists() and (self.folder / "postgres" / "PG_VERSION").exists():
            raise StartError(f"The database's password, {path}, is gone and its data is there; start anew with --reset")
        return self.secret(path)

    def secret(self, path: Path) -> str:
        """The secret in a file, which is made (256 random bits, mode 0600) if there is none."""
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path.read_text()

    def lock(self) -> int:
        """Takes the lock, for as long as the descriptor is open here or in a child.

        Raises StartError if another stack runs on this folder; of one that was killed,
        it waits for the children to end.
        """
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        until = time.monotonic() + _LEFTOVER_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                holder = os.pread(descriptor, 32, 0).decode() or "0"
                if _alive(int(holder)) or time.monotonic() > until:
                    os.close(descriptor)
                    raise StartError(
                        f"A stack runs already on {self.folder} (process {holder}): use that one, stop it with"
                        " Ctrl-C, or start another with FOCUS_HOME=/other/folder FOCUS_PORT=8081"
                    ) from None
                time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor

    def reset(self) -> None:
        """Removes the data, of nothing that a stack has not made itself."""
        for name in _DATA:
            path = self.folder / name
            if path.is_symlink():
                # Data that lies elsewhere (see `unprivileged`).
                shutil.rmtree(path.resolve(), ignore_errors=True)
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
