"""What every store of answers promises; the one in Valkey and the one in memory pass alike.

Time is not waited for: the Valkey store's clock values are moved back, the other's
clock forward.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from devstack.valkey import Valkey
from services.cache.freshness import Freshness
from services.cache.local import LocalStore
from services.cache.storage import (
    LEASE_MS,
    MAX_EVENTS,
    REFRESH_PAUSE_MS,
    AnswerStore,
    Holding,
    Renewal,
    State,
    Value,
    Wish,
)
from services.cache.store import ValkeyStore, question_name
from services.cache.valkey.client import Client, Script
from services.cache.valkey.connection import Address
from tests.contract.cache.cluster import Cluster

POLICY = Freshness(base=3_600_000, longest=86_400_000, stale_while_revalidate=600_000, stale_if_error=7_200_000)
KEY, OTHER = b"k" * 32, b"o" * 32
ANN, BOB = b"a" * 16, b"b" * 16
HOUR = 3_600_000

_BACK = Script("""
for _, field in ipairs({'a', 'u'}) do
  if redis.call('HEXISTS', KEYS[1], field) == 1 then redis.call('HINCRBY', KEYS[1], field, -ARGV[1]) end
end
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[1], left - ARGV[1]) end
return 1
""")


@dataclass
class Subject:
    store: AnswerStore
    # Lets so many milliseconds pass.
    wait: Callable[[int], Awaitable[None]]


@pytest.fixture(params=["valkey", "cluster", "local"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "local":
        now = [1000.0]

        async def forward(milliseconds: int) -> None:
            now[0] += milliseconds / 1000

        yield Subject(LocalStore(POLICY, 8 << 20, lambda: now[0]), forward)
        return
    server: Valkey | Cluster = request.getfixturevalue(
        {"valkey": "valkey_cache", "cluster": "valkey_cluster"}[request.param]
    )
    client = Client(Address.parse(server.url), budget=5)
    assert await client.ready(5)

    async def back(milliseconds: int) -> None:
        for name in (question_name(KEY), question_name(OTHER)):
            await client.script(_BACK, (name,), milliseconds)

    yield Subject(ValkeyStore(client, POLICY), back)
    await client.close()


def filling(holder: bytes = ANN) -> Wish:
    return Wish(holder, fill=True)


def refreshing(holder: bytes = ANN, lot: float = 0.0) -> Wish:
    return Wish(holder, refresh=True, fill=True, lot=lot)


async def test_nothing_is_found_where_nothing_was_put(subject: Subject) -> None:
    found = await subject.store.lookup(KEY, Wish())
    assert (found.state, found.value, found.granted, found.follows) == (State.NONE, b"", False, b"")


async def test_what_was_put_is_found_under_its_key_only(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value", cost=7))
    found = await subject.store.lookup(KEY, Wish())
    assert (found.state, found.value, found.cost) == (State.FRESH, b"value", 7)
    assert (await subject.store.lookup(OTHER, Wish())).state is State.NONE


async def test_the_first_to_miss_leads_and_the_others_follow(subject: Subject) -> None:
    assert (await subject.store.lookup(KEY, filling())).granted
    for _ in range(2):
        found = await subject.store.lookup(KEY, filling(BOB))
        assert (found.granted, found.follows) == (False, ANN)


async def test_without_the_wish_nobody_leads_or_follows(subject: Subject) -> None:
    assert not (await subject.store.lookup(KEY, Wish(ANN))).granted
    await subject.store.lookup(KEY, filling())
    assert (await subject.store.lookup(KEY, Wish(BOB))).follows == b""


async def test_an_abandoned_lease_goes_to_the_next(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    await subject.wait(LEASE_MS + 1)
    assert (await subject.store.lookup(KEY, filling(BOB))).granted
    assert (await subject.store.renew([Renewal(KEY, ANN)]))[0].holding is Holding.LOST


async def test_a_renewed_lease_stays(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    for _ in range(3):
        await subject.wait(LEASE_MS - 100)
        assert (await subject.store.renew([Renewal(KEY, ANN)]))[0].holding is Holding.HELD
    assert (await subject.store.lookup(KEY, filling(BOB))).follows == ANN


async def test_renewals_of_many_leases_are_answered_in_order(subject: Subject) -> None:
    await subject.store.lookup(OTHER, filling(BOB))
    renewed = await subject.store.renew([Renewal(KEY, ANN), Renewal(OTHER, BOB), Renewal(OTHER, ANN)])
    assert [one.holding for one in renewed] == [Holding.LOST, Holding.HELD, Holding.LOST]


async def test_the_filler_learns_that_it_is_followed_and_only_then_publishes(subject: Subject) -> None:
    store = subject.store
    await store.lookup(KEY, filling())
    assert (await store.renew([Renewal(KEY, ANN, 0, [b"1"])]))[0] == (await store.renew([Renewal(KEY, ANN)]))[0]
    assert (await store.read(KEY, BOB, 0)).events == []
    await store.lookup(KEY, filling(BOB))
    renewed = (await store.renew([Renewal(KEY, ANN, 0, [b"1", b"2"])]))[0]
    assert (renewed.holding, renewed.have) == (Holding.FOLLOWED, 2)
    reading = await store.read(KEY, ANN, 0)
    assert (reading.held, list(reading.events)) == (True, [b"1", b"2"])
    assert list((await store.read(KEY, ANN, 1)).events) == [b"2"]


async def test_reading_tells_the_filler_that_it_is_followed(subject: Subject) -> None:
    """After a take-over the remaining followers never look up again."""
    await subject.store.lookup(KEY, filling())
    await subject.store.read(KEY, ANN, 0)
    assert (await subject.store.renew([Renewal(KEY, ANN)]))[0].holding is Holding.FOLLOWED


async def test_events_published_twice_are_taken_once(subject: Subject) -> None:
    """A renewal that is repeated after a lost reply must not double the text."""
    await subject.store.lookup(KEY, filling())
    await subject.store.lookup(KEY, filling(BOB))
    for _ in range(2):
        renewed = (await subject.store.renew([Renewal(KEY, ANN, 0, [b"1", b"2"])]))[0]
        assert renewed.have == 2
    assert (await subject.store.renew([Renewal(KEY, ANN, 5, [b"6"])]))[0].have == 2


async def test_events_beyond_the_limit_are_not_taken(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    await subject.store.lookup(KEY, filling(BOB))
    for start in range(0, MAX_EVENTS, 2048):
        await subject.store.renew([Renewal(KEY, ANN, start, [b"x"] * 2048)])
    renewed = (await subject.store.renew([Renewal(KEY, ANN, MAX_EVENTS, [b"x"])]))[0]
    assert (renewed.holding, renewed.have) == (Holding.FOLLOWED, MAX_EVENTS)


async def test_events_beyond_two_mebibytes_are_not_taken(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    await subject.store.lookup(KEY, filling(BOB))
    event, have = b"x" * 300_000, 0
    for _ in range(10):
        have = (await subject.store.renew([Renewal(KEY, ANN, have, [event])]))[0].have
    assert have == 6
    await subject.store.put(KEY, ANN, Value(b"value"))
    assert (await subject.store.read(KEY, ANN, 6)).value == b"value"


async def test_a_put_ends_the_fill_and_its_followers_see_the_value(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    await subject.store.lookup(KEY, filling(BOB))
    await subject.store.put(KEY, ANN, Value(b"value"))
    reading = await subject.store.read(KEY, ANN, 0)
    assert (reading.held, reading.value) == (False, b"value")
    assert (await subject.store.renew([Renewal(KEY, ANN)]))[0].holding is Holding.LOST
    assert (await subject.store.lookup(KEY, filling(BOB))).value == b"value"


async def test_a_late_put_leaves_the_lease_of_the_successor(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    await subject.wait(LEASE_MS + 1)
    await subject.store.lookup(KEY, filling(BOB))
    await subject.store.put(KEY, ANN, Value(b"late"))
    assert (await subject.store.renew([Renewal(KEY, BOB)]))[0].holding is Holding.HELD
    assert (await subject.store.read(KEY, BOB, 0)).value == b""


async def test_a_released_fill_goes_to_the_next_at_once(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    await subject.store.release(KEY, ANN, b"", 0)
    assert not (await subject.store.read(KEY, ANN, 0)).held
    assert (await subject.store.lookup(KEY, filling(BOB))).granted


async def test_a_last_event_reaches_those_who_follow(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    await subject.store.lookup(KEY, filling(BOB))
    await subject.store.renew([Renewal(KEY, ANN, 0, [b"1"])])
    await subject.store.release(KEY, ANN, b"end", 0)
    reading = await subject.store.read(KEY, ANN, 0)
    assert (reading.held, list(reading.events)) == (False, [b"1", b"end"])


async def test_nobody_elses_lease_can_be_released(subject: Subject) -> None:
    await subject.store.lookup(KEY, filling())
    await subject.store.release(KEY, BOB, b"end", 0)
    assert (await subject.store.renew([Renewal(KEY, ANN)]))[0].holding is Holding.HELD


async def test_an_answer_ages_from_fresh_over_stale_to_expired_to_gone(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    states = []
    # The look-up while it is fresh makes its life a quarter longer, the later ones do not.
    for step in (0, HOUR * 5 // 4, 600_000, 7_200_000 - 600_000):
        await subject.wait(step)
        states.append((await subject.store.lookup(KEY, Wish())).state)
    assert states == [State.FRESH, State.STALE, State.EXPIRED, State.NONE]


async def test_hits_make_an_answer_live_longer_up_to_a_day(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    lives = [(await subject.store.lookup(KEY, Wish())).life for _ in range(120)]
    assert lives[0] == HOUR
    assert lives[4] == 2 * HOUR
    assert lives == sorted(lives)
    assert lives[-1] == 24 * HOUR


async def test_a_confirmation_is_worth_an_hour(subject: Subject) -> None:
    assert not await subject.store.confirm(KEY)
    await subject.store.put(KEY, b"", Value(b"value"))
    assert await subject.store.confirm(KEY)
    assert (await subject.store.lookup(KEY, Wish())).life == 2 * HOUR


async def test_a_refresh_that_says_the_same_confirms(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"old", b"same"))
    await subject.store.put(KEY, b"", Value(b"new", b"same"))
    assert (await subject.store.lookup(KEY, Wish())).life == 2 * HOUR
    await subject.store.put(KEY, b"", Value(b"newer", b"other"))
    assert (await subject.store.lookup(KEY, Wish())).life == HOUR


async def test_a_stale_answer_is_given_and_one_refreshes(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    await subject.wait(HOUR + 1)
    first = await subject.store.lookup(KEY, refreshing())
    assert (first.state, first.value, first.granted) == (State.STALE, b"value", True)


async def test_nobody_waits_for_a_refresh_under_way(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    await subject.wait(HOUR + 1)
    assert (await subject.store.lookup(KEY, refreshing())).granted
    found = await subject.store.lookup(KEY, refreshing(BOB))
    assert (found.value, found.granted, found.follows) == (b"value", False, b"")


async def test_an_expensive_answer_is_refreshed_before_its_end(subject: Subject) -> None:
    """XFetch: with a generating time of 10 s and a lot of 2, from 20 s before its end on."""
    await subject.store.put(KEY, b"", Value(b"value", cost=10_000))
    await subject.wait(HOUR - 25_000)
    assert not (await subject.store.lookup(KEY, refreshing(lot=2.0))).granted
    await subject.wait(HOUR // 4 + 10_000)
    found = await subject.store.lookup(KEY, refreshing(lot=2.0))
    assert (found.state, found.granted) == (State.FRESH, True)


async def test_warming_refreshes_what_ends_soon_and_counts_as_nobody(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    await subject.wait(HOUR - 600_000)
    soon = Wish(ANN, refresh=True, fill=True, ahead=300_000)
    for _ in range(3):
        found = await subject.store.lookup(KEY, soon)
        assert (found.state, found.granted, found.life) == (State.FRESH, False, HOUR)
    found = await subject.store.lookup(KEY, Wish(ANN, refresh=True, fill=True, ahead=900_000))
    assert (found.state, found.granted) == (State.FRESH, True)


async def test_after_a_failed_refresh_the_stale_answer_is_left_alone(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    await subject.wait(HOUR + 1)
    assert (await subject.store.lookup(KEY, refreshing())).granted
    await subject.store.release(KEY, ANN, b"", REFRESH_PAUSE_MS)
    assert not (await subject.store.lookup(KEY, refreshing(BOB))).granted
    await subject.wait(REFRESH_PAUSE_MS)
    assert (await subject.store.lookup(KEY, refreshing(BOB))).granted


async def test_an_expired_answer_comes_with_the_lease_for_a_new_one(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    await subject.wait(HOUR + 600_001)
    found = await subject.store.lookup(KEY, filling())
    assert (found.state, found.value, found.granted) == (State.EXPIRED, b"value", True)


async def test_a_pause_after_failure_never_keeps_a_fill_from_starting(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    await subject.wait(HOUR + 600_001)
    await subject.store.lookup(KEY, filling())
    await subject.store.release(KEY, ANN, b"", REFRESH_PAUSE_MS)
    assert (await subject.store.lookup(KEY, filling(BOB))).granted


async def test_an_answer_older_than_wanted_is_as_none(subject: Subject) -> None:
    await subject.store.put(KEY, b"", Value(b"value"))
    await subject.wait(60_000)
    found = await subject.store.lookup(KEY, Wish(ANN, fill=True, max_age=59_000))
    assert (found.state, found.value, found.granted) == (State.NONE, b"", True)
    assert (await subject.store.lookup(KEY, Wish(max_age=120_000))).value == b"value"


async def test_an_evicted_answer_is_gone_and_a_lease_stays(subject: Subject) -> None:
    assert not await subject.store.evict(KEY)
    await subject.store.put(KEY, b"", Value(b"value"))
    await subject.wait(HOUR + 1)
    await subject.store.lookup(KEY, refreshing())
    assert await subject.store.evict(KEY)
    assert (await subject.store.lookup(KEY, filling(BOB))).follows == ANN
