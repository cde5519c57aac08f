"""The Gemini emulator with scripted answers, and a hand on its controls.

emulator     a fresh script, no faults, counts at zero; its quota window is 3 s
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from devstack.home import Home
from devstack.process import wait_until_ready
from devstack.services import EMULATOR_KEY, Making, Service

WINDOW_SECONDS = 3.0
# For the emulator and the llm service alike: a quota minute of three seconds.
SETTINGS = {
    "FOCUS_GEMINI_WINDOW_SECONDS": str(WINDOW_SECONDS),
    "FOCUS_LLM_QUOTA_WINDOW_SECONDS": str(WINDOW_SECONDS),
}


class Emulator:
    """A running emulator. `service` is its process; `url` and `key` are what a client of Gemini needs."""

    key = EMULATOR_KEY

    def __init__(self, service: Service) -> None:
        self.service = service
        self.url = service.url
        self._client = httpx2.Client(base_url=f"{service.url}/_emulator", trust_env=False, timeout=10)

    def reset(self) -> None:
        """Everything as after the start."""
        self._post("reset", {})

    def script(self, *rules: Mapping[str, Any]) -> None:
        """Rules in order, before the default ones (see `devstack.gemini.script.Rule`)."""
        self._post("script", {"rules": list(rules)})

    def faults(self, *faults: Mapping[str, Any]) -> None:
        """Faults in place of those in force (see `devstack.gemini.faults.Fault`)."""
        self._post("faults", {"faults": list(faults)})

    def limits(self, **changes: Any) -> None:
        """Changes limits and windows (see `devstack.gemini.control.LimitsBody`)."""
        self._post("limits", changes)

    def keys(self, **changes: Sequence[Any]) -> None:
        """Changes the key ring (see `devstack.gemini.control.KeysBody`)."""
        self._post("keys", changes)

    def stats(self, **query: str) -> dict[str, Any]:
        """What was counted."""
        reply = self._client.get("/stats", params=query)
        reply.raise_for_status()
        return dict(reply.json())

    def close(self) -> None:
        """Closes the connection to the controls."""
        self._client.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        reply = self._client.post(f"/{path}", json=dict(body))
        assert reply.status_code == 200, reply.text


@pytest.fixture(scope="session")
def _emulator_process(scratch: Path) -> Iterator[Emulator]:
    service = Making(Home(scratch), SETTINGS).emulator("scripted")
    try:
        wait_until_ready([service.start()], timeout=30)
        emulator = Emulator(service)
        yield emulator
        emulator.close()
    finally:
        service.process.stop()
        service.port.close()


@pytest.fixture
def emulator(_emulator_process: Emulator) -> Emulator:
    """As after its start. A test may kill it."""
    if not _emulator_process.service.process.running:
        _emulator_process.service.restart()
    _emulator_process.reset()
    return _emulator_process
