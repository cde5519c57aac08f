"""What the clients of a chaos run did, one JSON object a line.

Each client appends to a file of its own with one `write`, so that a client killed
with -9 loses at most its last line, which then counts as unknown. Times are of the
monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

# invoke: about to ask for the turn; begun: the lease was given, with what the history
# held; ack: the commit was acknowledged; lost: the store said that nothing was stored;
# unknown: a time-out or a broken connection, so either may be true.
Kind = Literal["invoke", "begun", "ack", "lost", "unknown"]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history; fields that a kind does not have are at their defaults."""

    kind: Kind
    at: float
    client: str
    conversation: str
    turn: str
    # Of `begun` and `ack`.
    fence: int = 0
    seq: int = 0
    # Of `begun`: the questions of the history, oldest first, and whether it was cut.
    history: tuple[str, ...] = ()
    cut: bool = False
    # Of `invoke`: the Idempotency-Key.
    key: str = ""


class Recorder:
    """Appends events to one file."""

    def __init__(self, path: Path, client: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._client = client

    def record(
        self,
        kind: Kind,
        conversation: str,
        turn: str,
        *,
        fence: int = 0,
        seq: int = 0,
        history: tuple[str, ...] = (),
        cut: bool = False,
        key: str = "",
    ) -> None:
        event = Event(kind, time.monotonic(), self._client, conversation, turn, fence, seq, history, cut, key)
        os.write(self._file, (json.dumps(asdict(event)) + "\n").encode())

    def close(self) -> None:
        os.close(self._file)


def read(directory: Path) -> Iterator[Event]:
    """All events of a run, file by file; a torn last line is left out."""
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                fields = json.loads(line)
            except json.JSONDecodeError:
                continue
            fields["history"] = tuple(fields["history"])
            yield Event(**fields)


class Tally:
    """Counts the events of a run while it goes on, reading only what is new."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {}
        self._counts: Counter[str] = Counter()

    def count(self, kind: Kind) -> int:
        """How many there are by now, of all clients."""
        for path in self._directory.glob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read[path] = self._read.get(path, 0) + len(whole) + len(newline)
            for line in whole.splitlines():
                self._counts[json.loads(line)["kind"]] += 1
        return self._counts[kind]

    async def reach(self, kind: Kind, number: int, *, seconds: float = 60.0) -> None:
        """Returns when there are so many. AssertionError after `seconds`."""
        until = time.monotonic() + seconds
        while (counted := self.count(kind)) < number:
            assert time.monotonic() < until, f"{counted} of {number} events '{kind}' after {seconds:.0f} s"
            await asyncio.sleep(0.05)
