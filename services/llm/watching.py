"""Notices that a file or directory has changed.

By looking once a second rather than by inotify: a mounted Secret changes by swapping a link two
levels up, network file systems send no events, and a look costs microseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from services.common import logs

log = logs.get(__name__)


def state(path: Path) -> tuple[object, ...]:
    """Changes whenever the file, or anything directly in the directory, does."""

    def one(name: Path) -> tuple[object, ...]:
        try:
            found = name.stat()
        except OSError:
            return (name, None)
        return (name, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)

    whole = one(path)
    if not path.is_dir():
        return whole
    try:
        names = sorted(path.iterdir())
    except OSError:
        return whole
    return (whole, *(one(name) for name in names))


async def watch(path: Path, changed: Callable[[], None], seen: tuple[object, ...], *, every: float = 1.0) -> None:
    """Calls `changed` after each change from the state `seen`, until cancelled.

    What `changed` raises is logged, and watching goes on.
    """
    while True:
        await asyncio.sleep(every)
        now = state(path)
        if now == seen:
            continue
        seen = now
        try:
            changed()
        except Exception as err:
            log.error("a change was not taken over", path=str(path), exc_info=err)
