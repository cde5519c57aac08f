"""Stores for the suites that hold a fake and PostgreSQL to the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.session.stores import Stores, fake_stores, postgres_stores


@pytest.fixture(params=["fake", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    """Every test runs against both."""
    if request.param == "fake":
        async with fake_stores() as found:
            yield found
    else:
        async with postgres_stores(request.getfixturevalue("module_database_url")) as found:
            yield found
