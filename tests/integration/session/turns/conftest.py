"""One session process, or three, for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.valkey import Valkey
from tests.integration.session.turns.fleet import Caller, Fleet, fleet, settings


@pytest.fixture
async def caller(tmp_path: Path, database_url: str, valkey: Valkey) -> AsyncIterator[Caller]:
    """Somebody who calls a session process."""
    async with fleet(settings(tmp_path, database_url, valkey.url)) as found:
        yield found.caller


@pytest.fixture
async def three(tmp_path: Path, database_url: str, valkey: Valkey) -> AsyncIterator[Fleet]:
    """Three session processes over the same stores."""
    async with fleet(settings(tmp_path, database_url, valkey.url), 3) as found:
        yield found
