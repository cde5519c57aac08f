"""Purge marks and counts of popular questions on one Valkey and on a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.cache.freshness import Freshness
from services.cache.popular import MAX_KEPT
from services.cache.storage import State, Value, Wish
from services.cache.store import ValkeyStore, question_name
from services.cache.valkey.client import Client, slot
from services.cache.valkey.connection import Address
from tests.contract.cache.cluster import Cluster


@pytest.fixture(params=["valkey_cache", "valkey_cluster"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    client = Client(Address.parse(request.getfixturevalue(request.param).url), budget=5)
    assert await client.ready(5)
    yield client
    await client.close()


@pytest.fixture
def store(client: Client) -> ValkeyStore:
    return ValkeyStore(client, Freshness())


async def test_an_empty_store_begins_with_a_floor(store: ValkeyStore) -> None:
    version, marks = await store.marks(0)
    assert marks == [(b"!", version)]
    assert await store.marks(version) == (version, [])


async def test_marks_are_read_once_and_versions_grow(store: ValkeyStore) -> None:
    known, _ = await store.marks(0)
    first = await store.mark([b"t1", b"m1"])
    second = await store.mark([b"t2"])
    assert known < first < second
    version, marks = await store.marks(known)
    assert version == second
    assert sorted(marks) == [(b"m1", first), (b"t1", first), (b"t2", second)]
    assert (await store.marks(first))[1] == [(b"t2", second)]


async def test_too_many_marks_become_one_floor(store: ValkeyStore) -> None:
    for start in range(0, 50_000, 5000):
        version = await store.mark([f"k{number}".encode() for number in range(start, start + 5000)])
    assert await store.marks(0) == (version, [(b"!", version)])


async def test_popular_questions_add_up_and_the_rare_make_way(store: ValkeyStore) -> None:
    await store.add_popular(b"tenant", {b"a": (3, b"text a"), b"b": (5, b"text b")})
    await store.add_popular(b"tenant", {b"a": (4, b"text a")})
    await store.add_popular(b"other", {b"c": (1, b"text c")})
    assert await store.popular([b"tenant"], 10) == [(7, b"text a"), (5, b"text b")]
    assert await store.popular([b"tenant"], 1) == [(7, b"text a")]
    assert sorted(await store.popular([], 10)) == [(1, b"text c"), (5, b"text b"), (7, b"text a")]
    await store.add_popular(b"tenant", {str(n).encode(): (1, b"x") for n in range(MAX_KEPT)})
    kept = await store.popular([b"tenant"], 1000)
    assert len(kept) == MAX_KEPT
    assert kept[:2] == [(7, b"text a"), (5, b"text b")]


async def test_slots_follow_the_specification() -> None:
    """Values of CLUSTER KEYSLOT."""
    assert slot(b"123456789") == 0x31C3
    assert slot(b"foo{bar}baz") == slot(b"bar")
    assert slot(b"{}x") == slot(b"{}x")
    assert slot(question_name(b"k" * 32)) == slot(question_name(b"k" * 32) + b"events")


async def test_a_slot_that_moved_is_found(valkey_cluster: Cluster) -> None:
    """Nothing fails: the old owner says where the key is now, and the layout is learned anew."""
    client = Client(Address.parse(valkey_cluster.url), budget=5)
    assert await client.ready(5)
    store = ValkeyStore(client, Freshness())
    key = next(bytes([n]) * 32 for n in range(256) if slot(question_name(bytes([n]) * 32)) < 5000)
    valkey_cluster.move(slot(question_name(key)), valkey_cluster.nodes[0], valkey_cluster.nodes[1])
    try:
        await store.put(key, b"", Value(b"value"))
        assert (await store.lookup(key, Wish())).state is State.FRESH
    finally:
        valkey_cluster.wipe()
        valkey_cluster.move(slot(question_name(key)), valkey_cluster.nodes[1], valkey_cluster.nodes[0])
        await client.close()
