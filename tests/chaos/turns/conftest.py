"""How the tests of this folder start session processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from devstack.valkey import Valkey
from tests.chaos.turns import cluster
from tests.chaos.turns.cluster import Cluster

Start = Callable[..., AbstractAsyncContextManager[Cluster]]


@pytest.fixture
def start(scratch: Path, database_url: str, valkey: Valkey) -> Start:
    """Starts a cluster on this test's database; options as of `cluster.running`."""

    def start(**options: Any) -> AbstractAsyncContextManager[Cluster]:
        return cluster.running(scratch, database_url, valkey.url, **options)

    return start
