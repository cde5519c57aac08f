"""One child process: started on a leash, with a log file, stopped in a bounded time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_LEASH = Path(__file__).with_name("leash.py")
POLL_SECONDS = 0.02


class StartError(Exception):
    """Something could not be started. The message is one sentence for the person at the terminal."""


@dataclass(slots=True)
class Process:
    """A program that may be started, paused, killed and started again.

    It runs in a session of its own, so that Ctrl-C in a terminal does not reach it,
    and ends with the thread that started it (see `devstack.leash`). What it writes
    goes to `log`; the log of the run before is kept as `<log>.previous`.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    folder: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    # User and group number to run as; None: the caller's.
    account: tuple[int, int] | None = None
    # File descriptors that it inherits.
    inherits: Sequence[int] = ()
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int:
        """The process id; AssertionError if it was never started."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """True from start to end, also while paused."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit status, negative for a signal; None while it runs or before it did."""
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        """Starts it. AssertionError if it runs already."""
        assert not self.running, f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # Only the first start of this object begins a new log: a restart belongs to the same run.
        if self._child is None and self.log.exists():
            self.log.replace(self.log.with_name(self.log.name + ".previous"))
        account = f"{self.account[0]}:{self.account[1]}" if self.account else "-"
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), str(int(self.death_signal)), account]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*leash, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=dict(self.environment),
                start_new_session=True,
                pass_fds=self.inherits,
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone; nothing if it has ended."""
        if self._child is not None:
            self._child.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP: it stands still and keeps everything it holds."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: a paused process goes on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to it and all its descendants; returns when they are gone."""
        if self._child is None:
            return
        family: list[psutil.Process] = []
        if self.running:
            try:
                process = psutil.Process(self._child.pid)
                family = [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                family = []
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        self._child.wait()
        psutil.wait_procs(family, timeout=10)

    def ask_to_stop(self) -> None:
        """Sends the stop signal without waiting."""
        if self.running:
            self.signal(self.stop_signal)
            self.resume()  # a paused process would not hear it

    def stop(self) -> None:
        """Asks it to stop, waits `stop_seconds`, then kills it."""
        if self._child is None:
            return
        self.ask_to_stop()
        try:
            self._child.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> None:
        """Stops it if it runs, and starts it again; does not wait until it is ready."""
        self.stop()
        self.start()

    def failure(self) -> str:
        """Why it is not running, as one sentence that names the log."""
        code = self.exit_code
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        name = self.name[0].upper() + self.name[1:]
        return f"{name} ended by itself ({how}); the reason stands at the end of {self.log}"


@dataclass(frozen=True, slots=True)
class Ready:
    """A process with the question whether it does its work yet."""

    process: Process
    probe: Callable[[], bool]

    def reached(self) -> bool:
        """Asks once. Raises StartError if the process ended without getting there."""
        # In this order: one that ends well just after its probe has not failed.
        alive = self.process.running
        if self.probe():
            return True
        if not alive:
            raise StartError(self.process.failure())
        return False

    def late(self, seconds: float) -> str:
        """What to say when it took too long."""
        process = self.process
        return f"{process.name} was not ready after {seconds:.0f} seconds; what it did stands in {process.log}"


def wait_until_ready(starting: Iterable[Ready], *, timeout: float) -> None:
    """Returns when every probe has said yes.

    Raises StartError when a process ends before, or after `timeout` seconds in all.
    """
    waiting = list(starting)
    until = time.monotonic() + timeout
    while waiting := [one for one in waiting if not one.reached()]:
        if time.monotonic() > until:
            raise StartError(waiting[0].late(timeout))
        time.sleep(POLL_SECONDS)


def stop_together(processes: Iterable[Process]) -> None:
    """Stops processes that do not need one another at the same time."""
    stopping = list(processes)
    for process in stopping:
        process.ask_to_stop()
    for process in stopping:
        process.stop()
