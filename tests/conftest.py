"""Fixtures for all tests; what they start is told in `tests.harness`."""

import pytest

pytest_plugins = [
    "tests.harness.network",
    "tests.harness.stores",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("focus")
    group.addoption("--base-url", default=None, help="run the end-to-end tests against this deployed system")
    group.addoption(
        "--api-key", default=None, help="API key for --base-url (default: $FOCUS_API_KEY, or a new account)"
    )
