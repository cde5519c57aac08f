"""A cluster that all contract tests of the cache share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.cache import cluster
from tests.contract.cache.cluster import Cluster


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster.running(tmp_path_factory.mktemp("cluster")) as three:
        yield three


@pytest.fixture
def valkey_cluster(_cluster: Cluster) -> Cluster:
    """Three servers, empty."""
    _cluster.wipe()
    return _cluster
