"""Notices when a mounted directory changes.

Kubernetes replaces a mounted Secret or ConfigMap by swapping the `..data` link, so
the directory is looked at, not an open file. Looking twice a second costs a few
system calls and works on every file system; inotify does not see all such swaps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.common import logs

log = logs.get(__name__)

INTERVAL_SECONDS = 0.5


def fingerprint(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Changes when a file below `path` (or `path` itself, if it is a file) is added, removed or replaced.

    Hidden names are left out, as the mounted directories keep their book-keeping there.
    """
    files = [path] if path.is_file() else [file for file in _walk(path) if file.is_file()]
    found = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:  # removed while we looked
            continue
        found.append((str(file), stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(sorted(found))


def _walk(directory: Path) -> list[Path]:
    try:
        names = [entry for entry in directory.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return []
    files: list[Path] = []
    for entry in names:
        files.extend(_walk(entry) if entry.is_dir() else [entry])
    return files


@asynccontextmanager
async def watching(
    path: Path, on_change: Callable[[], None], *, interval: float = INTERVAL_SECONDS
) -> AsyncIterator[None]:
    """Calls `on_change` after every change below `path` while the context is open.

    It is not called for what is there when the context opens, so open it first and load
    then: a change in between is seen. An exception of `on_change` is
    logged and the watch goes on: neither a bad file nor a folder that cannot be read for
    a moment must end hot reloading.
    """

    at_start = fingerprint(path)

    async def watch() -> None:
        seen = at_start
        while True:
            await asyncio.sleep(interval)
            try:
                found = fingerprint(path)
                if found == seen:
                    continue
                seen = found
                on_change()
            except Exception as err:
                log.error("reloading failed; what was loaded before stays in use", path=str(path), exc_info=err)

    task = asyncio.create_task(watch(), name=f"watch {path}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
