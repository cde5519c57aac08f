"""The store in memory keeps to its bound and remembers what Valkey gave."""

from services.cache.freshness import Freshness
from services.cache.local import LocalStore
from services.cache.storage import Found, State, Value, Wish

POLICY = Freshness()


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def test_old_answers_make_way_when_memory_is_full() -> None:
    store = LocalStore(POLICY, 100_000)
    for number in range(1000):
        await store.put(key(number), b"", Value(b"x" * 1000))
    kept = [n for n in range(1000) if (await store.lookup(key(n), Wish())).state is State.FRESH]
    assert kept
    assert len(kept) < 100
    assert kept[-1] == 999


async def test_misses_leave_nothing_behind() -> None:
    store = LocalStore(POLICY, 100_000)
    for number in range(100_000):
        await store.lookup(key(number), Wish())
    await store.put(key(1), b"", Value(b"value"))
    assert store.lines == 1


async def test_abandoned_leases_are_bounded() -> None:
    store = LocalStore(POLICY, 100_000)
    for number in range(10_000):
        await store.lookup(key(number), Wish(b"h" * 16, fill=True))
    assert store.lines < 500


async def test_a_remembered_answer_lives_no_longer_than_elsewhere() -> None:
    now = [1000.0]
    store = LocalStore(POLICY, 100_000, lambda: now[0])
    store.remember(key(1), Found(State.FRESH, b"value", age=3_000_000, life=3_600_000))
    assert (await store.lookup(key(1), Wish())).state is State.FRESH
    now[0] += 601
    assert (await store.lookup(key(1), Wish())).state is State.STALE
