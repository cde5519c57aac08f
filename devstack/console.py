"""What the person at the terminal sees while something takes long."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_QUIET_SECONDS = 2.0


class StartProgress:
    """A bar on a terminal, plain lines elsewhere; nothing at all in the first two seconds."""

    def __init__(self, text: str, stream: TextIO = sys.stderr) -> None:
        self._text = text
        self._stream = stream
        self._started = time.monotonic()
        self._told = ""
        self._told_at = 0.0
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()

    def report(self, ready: int, total: int, waiting: list[str]) -> None:
        """Called often, with how many of `total` parts are ready and which are starting."""
        if time.monotonic() - self._started < _QUIET_SECONDS:
            return
        names = ", ".join(waiting[:3]) + (" …" if len(waiting) > 3 else "")
        if not self._stream.isatty():
            line = f"{self._text}: {ready} of {total} ready" + (f", waiting for {names}" if names else "")
            if line != self._told and time.monotonic() - self._told_at > _QUIET_SECONDS:
                self._told, self._told_at = line, time.monotonic()
                print(line, file=self._stream, flush=True)
            return
        if self._bar is None:
            columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[names]}")]
            console = Console(file=self._stream)
            self._bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
            self._bar.add_task(self._text, total=total, names=names)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=ready, names=names)
