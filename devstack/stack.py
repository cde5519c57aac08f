"""The environment: the whole system as child processes of this one.

The same object for people (`python -m devstack`), tests and benchmarks:

    with Stack(Plan(folder, backend="scripted")) as stack:
        requests to stack.base_url
        stack.sessions[0].process.kill()
        stack.sessions[0].restart()

Enter and leave it in the main thread: children end with the thread that started them.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from devstack.home import Home
from devstack.launch import Part, Report, launch
from devstack.ports import Port
from devstack.postgres import Postgres
from devstack.process import Process, Ready, StartError, stop_together
from devstack.services import Making, Service
from devstack.valkey import Valkey

Backend = Literal["local", "scripted"]

_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start.

    `home` keeps data, secrets and logs; `port` is the (first) gateway's, 0 a free one.
    `backend` is the emulator's; None means no emulator: `settings` must then hold
    GEMINI_API_KEY. `settings` are passed to all processes by their full names, such as
    FOCUS_GATEWAY_MAX_QUESTION_CHARS. `durable=False` is for tests that do not crash
    PostgreSQL. `reset` clears the data first.
    """

    home: Path
    port: int = 0
    backend: Backend | None = "local"
    gateways: int = 1
    sessions: int = 1
    caches: int = 1
    llms: int = 1
    durable: bool = True
    reset: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    postgres_settings: Mapping[str, str] = field(default_factory=dict)


def _silent(_ready: int, _total: int, _waiting: list[str]) -> None:
    return None


class Stack:
    """The running system, between `__enter__` and `__exit__`. Entering raises StartError."""

    postgres: Postgres
    valkey_limits: Valkey
    valkey_cache: Valkey
    emulator: Service | None
    sessions: list[Service]
    caches: list[Service]
    llms: list[Service]
    gateways: list[Service]

    def __init__(self, plan: Plan, report: Report = _silent) -> None:
        self.plan = plan
        self.home = Home(plan.home.resolve())
        # Everything that runs as long as the stack does.
        self.processes: list[Process] = []
        self._report = report
        self._exit = ExitStack()

    @property
    def base_url(self) -> str:
        """Of the first gateway."""
        return self.gateways[0].url

    @property
    def services(self) -> dict[str, list[Service]]:
        """The replicas of each of the four services."""
        return {"gateway": self.gateways, "session": self.sessions, "cache": self.caches, "llm": self.llms}

    def __enter__(self) -> Self:
        try:
            self._start()
        except OSError as err:
            self._exit.close()
            raise StartError(_sentence(err, self.home.folder)) from err
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def kill_all(self) -> None:
        """Sends SIGKILL to every process and returns at once; may be called in a signal handler."""
        for process in self.processes:
            process.signal(signal.SIGKILL)

    def _start(self) -> None:
        plan, home = self.plan, self.home
        # The folder first: a second start by mistake is told so, and not that its port is in use. But
        # where there is no folder yet, a port in use leaves none behind.
        lock = self._lock() if home.folder.exists() else None
        first_port = self._reserve(plan.port)
        if lock is None:
            lock = self._lock()
        if plan.reset:
            home.reset()
        home.prepare()

        self.postgres = Postgres(
            home.folder,
            home.log / "postgres.log",
            password=home.postgres_password(),
            durable=plan.durable,
            settings=plan.postgres_settings,
        )
        self.valkey_limits = Valkey("limits", home.folder / "valkey-limits", home.log / "valkey-limits.log")
        self.valkey_cache = Valkey("cache", home.folder / "valkey-cache", home.log / "valkey-cache.log")
        for store in (self.postgres, self.valkey_limits, self.valkey_cache):
            store.process.inherits = (lock,)
            self.processes.append(store.process)
            self._exit.callback(store.stop)

        making = Making(home, plan.settings, (lock,))
        self.emulator = making.emulator(plan.backend) if plan.backend else None
        self._stops([self.emulator] if self.emulator else [])
        database, limits = self.postgres.url(), self.valkey_limits.url
        emulator_url = self.emulator.url if self.emulator else None
        self.sessions = [making.session(name, database, limits) for name in _names("session", plan.sessions)]
        self.caches = [making.cache(name, self.valkey_cache.url) for name in _names("cache", plan.caches)]
        self.llms = [making.llm(name, limits, emulator_url) for name in _names("llm", plan.llms)]
        self._stops([*self.sessions, *self.caches, *self.llms])
        ports = [first_port, *(Port() for _ in range(plan.gateways - 1))]
        self.gateways = [
            making.gateway(name, port, sessions=self.sessions, caches=self.caches, llms=self.llms)
            for name, port in zip(_names("gateway", plan.gateways), ports, strict=True)
        ]
        self._stops(self.gateways)
        launch(self._parts(making), timeout=_START_SECONDS, report=self._report)

    def _stops(self, services: list[Service]) -> None:
        """They are stopped together, before everything that was named earlier."""
        for one in services:
            self._exit.callback(one.port.close)
            self.processes.append(one.process)
        self._exit.callback(stop_together, [one.process for one in services])

    def _parts(self, making: Making) -> list[Part]:
        migrations, keys = making.migrations(self.postgres.url()), making.signing_keys()
        parts = [
            Part("PostgreSQL", self.postgres.start),
            Part("Valkey (limits)", self.valkey_limits.start),
            Part("Valkey (cache)", self.valkey_cache.start),
            Part("signing keys", lambda: _to_its_end(keys)),
            Part("migrations", lambda: _to_its_end(migrations), frozenset({"PostgreSQL"})),
        ]
        if self.emulator:
            parts.append(Part("Gemini emulator", self.emulator.start))
        needs = {
            "session": frozenset({"migrations", "signing keys", "Valkey (limits)"}),
            "cache": frozenset({"Valkey (cache)"}),
            "llm": frozenset({"Valkey (limits)"}),
            "gateway": frozenset({"signing keys"}),
        }
        for role, replicas in self.services.items():
            parts += [Part(one.process.name, one.start, needs[role]) for one in replicas]
        return parts

    def _lock(self) -> int:
        self.home.prepare_folder()
        lock = self.home.lock()
        self._exit.callback(os.close, lock)
        return lock

    def _reserve(self, number: int) -> Port:
        try:
            return Port(number)
        except OSError as err:
            if err.errno != errno.EADDRINUSE:
                raise
            raise StartError(
                f"Port {number} is in use: stop what listens on it, or choose another, such as FOCUS_PORT={number + 1}"
            ) from None


def _names(role: str, number: int) -> list[str]:
    return [role] if number == 1 else [f"{role}-{index}" for index in range(1, number + 1)]


def _to_its_end(process: Process) -> Ready:
    process.start()
    return Ready(process, lambda: process.exit_code == 0)


def _sentence(err: OSError, folder: Path) -> str:
    where = err.filename or folder
    match err.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"The disk is full: free some space where {where} lies, or choose another folder with FOCUS_HOME"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{where} cannot be written: change its rights, or choose another folder with FOCUS_HOME"
        case _:
            return f"Cannot start: {where}: {err.strerror or err}"
