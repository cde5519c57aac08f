"""Fixtures for all tests; what they start is told in `tests.harness`."""

from __future__ import annotations

import pytest

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Divides tests among processes by file; all that share the whole system go to one process."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            shared = "stack" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("stack" if shared else str(item.path)))
