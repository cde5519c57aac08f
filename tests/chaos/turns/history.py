"""What the clients of a chaos run did, one JSON object a line.

Each client appends to a file of its own with one `write`, so that a client killed
with -9 loses at most its last line, which then counts as unknown. Times are of the
monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

import json
import os
import time
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
    ) -> None:
        event = Event(kind, time.monotonic(), self._client, conversation, turn, fence, seq, history, cut)
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
