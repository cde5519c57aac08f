"""llm processes and a Gemini emulator for tests; each is ended by whoever started it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen


class Child:
    """A process whose standard error is kept; `port` once it listens."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        base = {name: value for name, value in os.environ.items() if not name.startswith(("FOCUS_", "GEMINI_"))}
        # A file, for a pipe that nobody reads would stop a process that logs much.
        self._log = Path(tempfile.mkstemp(prefix="focus-test-", suffix=".log")[1])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**base, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, wanted: str, seconds: float = 30.0) -> dict[str, Any]:
        """The first JSON line of the log that has the field `wanted`, or whose event is `wanted`."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for line in self.log.splitlines():
                if line.startswith("{"):
                    try:
                        fields: dict[str, Any] = json.loads(line)
                    except json.JSONDecodeError:
                        continue
                    if wanted in fields or fields.get("event") == wanted:
                        return fields
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before '{wanted}':\n{self.log}")
            time.sleep(0.02)
        raise AssertionError(f"no '{wanted}' within {seconds} s:\n{self.log}")

    def kill(self) -> None:
        """As if the machine had lost it."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._log.unlink(missing_ok=True)


class Emulator:
    """The Gemini emulator and its control plane."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.url: str = child.wait_for("url")["url"]

    def control(self, method: str, path: str, body: object = None) -> Any:
        """A call of the control plane, e.g. `control("GET", "stats")`."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/_emulator/{path}", data, {"content-type": "application/json"}, method=method)
        with urlopen(request, timeout=10) as response:
            raw = response.read()
        return json.loads(raw) if raw else None

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.control("GET", "stats")
        return found


@contextmanager
def emulator(**settings: object) -> Iterator[Emulator]:
    """A scripted emulator; `settings` are those of `devstack.gemini`, collections as Python values."""
    environment = {
        f"FOCUS_GEMINI_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in {"backend": "scripted", "port": 0, **settings}.items()
    }
    child = Child("devstack.gemini", environment)
    try:
        yield Emulator(child)
    finally:
        child.stop()


def start_llm(base_url: str, environment: Mapping[str, str] | None = None) -> Child:
    """An llm process, not yet waited for."""
    return Child(
        "services.llm",
        {
            "FOCUS_LLM_GRPC_LISTEN": "127.0.0.1:0",
            "FOCUS_LLM_BASE_URL": base_url,
            "FOCUS_LLM_STOP_GRACE_SECONDS": "2",
            "GEMINI_API_KEY": "focus-emulator-key",
            **(environment or {}),
        },
    )


@contextmanager
def llm(base_url: str, environment: Mapping[str, str] | None = None) -> Iterator[tuple[Child, str]]:
    """An llm process that listens, with its address."""
    child = start_llm(base_url, environment)
    try:
        yield child, f"127.0.0.1:{child.wait_for('listening')['port']}"
    finally:
        child.stop()
