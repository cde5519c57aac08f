"""Fixtures for all tests; what they start is told in `tests.harness`."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

pytest_plugins = [
    "tests.harness.network",
    "tests.harness.stores",
    "tests.harness.emulator",
    "tests.harness.system",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("focus")
    group.addoption("--base-url", default=None, help="run the end-to-end tests against this deployed system")
    group.addoption("--api-key", default=None, help="an API key of that system (default: $FOCUS_API_KEY, or a new one)")
    group.addoption("--long", action="store_true", help="run the long forms of tests that have two")


@pytest.fixture(scope="session")
def long_form(request: pytest.FixtureRequest) -> bool:
    """True when a test that has a short and a long form shall run the long one."""
    return bool(request.config.getoption("--long"))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Divides tests among processes by file; those of tests/e2e share one system and so one process.

    Not `--dist loadgroup`: pytest 9.2 does not see the marks by which xdist 3.8 groups.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "tests/e2e" if path.startswith("tests/e2e/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    """For `--dist loadscope`, which `python -m tests` asks for."""
    return ByFile(config, log) if config.getoption("dist") == "loadscope" else None
