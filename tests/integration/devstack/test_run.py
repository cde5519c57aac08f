"""`make run` as people meet it: one URL, one curl line, Ctrl-C, a second start, and sentences when it cannot."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pytest

from devstack.ports import Port
from devstack.services import OURS
from tests.harness.emulator import Emulator

pytestmark = pytest.mark.timeout(240)

_READY = "Ctrl-C stops everything."


@dataclass
class Run:
    """One `python -m devstack`."""

    home: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> str:
        """Starts it and returns what it said until it was ready, or until it ended."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
        environment |= {"FOCUS_HOME": str(self.home), "FOCUS_PORT": str(self.port), **self.settings}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "devstack"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if _READY in line:
                return said
        self.process.wait()
        return said

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Sends a signal; exit status and what was said after it."""
        self.process.send_signal(number)
        return self.outcome()

    def outcome(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def saved(self) -> dict[str, str]:
        """What stands in dev.env."""
        lines = (self.home / "dev.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture
def run(scratch: Path, tmp_path: Path) -> Iterator[Run]:
    """A run of its own data; whatever a test leaves is ended."""
    port = Port()
    port.close()
    one = Run(scratch / tmp_path.name, port.number)
    yield one
    if one.process.poll() is None:
        one.process.kill()
        one.process.wait()
    if one.process.stdout is not None:
        one.process.stdout.close()


def test_a_day_with_it(run: Run, tmp_path: Path) -> None:
    """First start with the local model, a question by the line that it prints, a second start by mistake,
    Ctrl-C, a start on the same data, a service that dies."""
    said = run.start()
    assert f"http://127.0.0.1:{run.port}" in said
    saved = run.saved()
    assert (run.home / "dev.env").stat().st_mode & 0o777 == 0o600
    assert set(saved) == {"FOCUS_URL", "FOCUS_API_KEY", "FOCUS_EMAIL", "FOCUS_PASSWORD"}
    assert saved["FOCUS_EMAIL"] in said

    [line] = [line for line in said.splitlines() if line.startswith("curl ")]
    answer = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60, check=True).stdout
    assert "Bras" in answer
    bearer = {"Authorization": f"Bearer {saved['FOCUS_API_KEY']}"}
    with httpx2.Client(base_url=saved["FOCUS_URL"], headers=bearer, trust_env=False, timeout=60) as client:
        kept = client.post("/v1/conversations", json={"title": "Kept"}).json()["conversation_id"]

    for port in (run.port, run.port + 1):
        second = Run(run.home, port)
        assert re.fullmatch(rf"A stack runs already on \S+ \(process {run.process.pid}\): .*\n", second.start())
    other = Run(tmp_path / "other", run.port)
    assert re.fullmatch(rf"Port {run.port} is in use: .* FOCUS_PORT={run.port + 1}\n", other.start())
    assert (second.process.returncode, other.process.returncode) == (1, 1)
    assert not other.home.exists()

    children = run.children()
    assert len(children) >= 8
    status, last = run.end(signal.SIGINT)
    assert status == 0
    assert "the data stays in" in last
    assert_gone(children)

    run.start()
    assert run.saved() == saved
    with httpx2.Client(base_url=saved["FOCUS_URL"], headers=bearer, trust_env=False, timeout=60) as client:
        assert client.get(f"/v1/conversations/{kept}").json()["title"] == "Kept"
    children = run.children()
    [cache] = [one for one in children if "services.cache" in one.cmdline()]
    cache.kill()
    status, last = run.outcome()
    assert status == 1
    assert re.search(r"^Cache ended by itself \(signal SIGKILL\); .*cache\.log", last, re.MULTILINE)
    assert_gone(children)


def test_with_a_key_the_provider_of_the_environment_is_called_and_killing_it_leaves_nothing(
    run: Run, emulator: Emulator
) -> None:
    emulator.script({"text": "From elsewhere."})
    run.settings = {"GEMINI_API_KEY": emulator.key, "FOCUS_LLM_BASE_URL": emulator.url}
    said = run.start()
    assert "emulator" not in said
    children = run.children()
    assert not [one for one in children if "devstack.gemini" in one.cmdline()]
    bearer = {"Authorization": f"Bearer {run.saved()['FOCUS_API_KEY']}"}
    url = f"http://127.0.0.1:{run.port}/v1/ask"
    reply = httpx2.post(url, json={"question": "Where from?"}, headers=bearer, trust_env=False, timeout=60)
    assert reply.json()["answer"] == "From elsewhere."
    run.process.kill()
    assert_gone(children)


def test_a_port_that_somebody_else_has_is_a_sentence_and_leaves_nothing(run: Run) -> None:
    with socket.create_server(("127.0.0.1", run.port)):
        assert f"Port {run.port} is in use" in run.start()
    assert not run.home.exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(run: Run) -> None:
    run.home = Path("/proc/focus")
    said = run.start()
    assert said.count("\n") == 1
    assert "/proc/focus" in said
    assert run.process.returncode == 1
