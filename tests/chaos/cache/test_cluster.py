"""The same service on a cluster of three, whole and with one of them dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from focus.cache.v1 import cache_pb2 as pb
from services.common.rpc.client import unary
from tests.contract.cache import cluster
from tests.contract.cache.cluster import Cluster
from tests.integration.cache.fleet import (
    CALL_SECONDS,
    TENANT,
    Gateway,
    Upstream,
    answer,
    asking,
    kind,
    lookup,
    replicas,
    store,
)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    with cluster.running(tmp_path) as nodes:
        yield nodes


def question(number: int) -> pb.Question:
    return asking(f"What is the square of {number}?")


async def test_single_flight_and_purges_work_unchanged_on_a_cluster(three: Cluster, tmp_path: Path) -> None:
    async with replicas(three.url, tmp_path, 3) as stubs:
        upstream = Upstream(words=10, pause=0.15)
        gateways = [Gateway(stub, upstream) for stub in stubs]
        said = await asyncio.gather(*(gateways[n % 3].ask(question(n % 6)) for n in range(120)))
        for gateway in gateways:
            await gateway.kill()
        assert upstream.calls == 6
        assert len({one.text for one in said}) == 6
        assert [kind(await lookup(stubs[n % 3], question(n))) for n in range(6)] == ["hit"] * 6
        await unary(stubs[0].Purge, pb.PurgeRequest(tenant_ids=[TENANT]), timeout=CALL_SECONDS)
        await asyncio.sleep(1)
        assert [kind(await lookup(stubs[n % 3], question(n))) for n in range(6)] == ["miss"] * 6


async def test_with_one_of_three_dead_all_are_answered(three: Cluster, tmp_path: Path) -> None:
    """What lay on the dead one comes from the replica's memory; the others' entries as ever."""
    async with replicas(three.url, tmp_path, valkey_timeout_seconds=0.2) as (stub,):
        for number in range(60):
            await store(stub, question(number), answer(f"Square {number}."))
        three.nodes[2].process.kill()
        found = [await lookup(stub, question(number), single_flight=False) for number in range(60)]
        assert [one.hit.answer.text for one in found] == [f"Square {number}." for number in range(60)]
        fresh = [await lookup(stub, question(number)) for number in range(100, 160)]
        assert all(one.miss.fill.leased for one in fresh)
