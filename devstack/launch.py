"""Starts parts that need one another, as much at once as their needs allow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from devstack.process import POLL_SECONDS, Ready, StartError

# (how many are ready, how many there are, what is waited for)
Report = Callable[[int, int, list[str]], None]


@dataclass(frozen=True, slots=True)
class Part:
    """Something to start once the parts named in `after` are ready."""

    name: str
    start: Callable[[], Ready]
    after: frozenset[str] = frozenset()


def launch(parts: Iterable[Part], *, timeout: float, report: Report) -> None:
    """Returns when every part is ready; calls `report` all the time. Raises StartError.

    Runs in the calling thread, which must live as long as what it starts (see
    `devstack.leash`).
    """
    waiting = list(parts)
    total = len(waiting)
    known = {part.name for part in waiting}
    assert all(part.after <= known for part in waiting), "a part needs one that is not there"
    starting: dict[str, Ready] = {}
    ready: set[str] = set()
    until = time.monotonic() + timeout
    while len(ready) < total:
        for part in [part for part in waiting if part.after <= ready]:
            waiting.remove(part)
            starting[part.name] = part.start()
            report(len(ready), total, list(starting))
        for name in [name for name, one in starting.items() if one.reached()]:
            del starting[name]
            ready.add(name)
        report(len(ready), total, list(starting))
        if starting and time.monotonic() > until:
            raise StartError(next(iter(starting.values())).late(timeout))
        time.sleep(POLL_SECONDS)
