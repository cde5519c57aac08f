"""The numbers are right against a replayed log, and what is popular is learned from it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from prometheus_client import REGISTRY

from devstack.valkey import Valkey
from focus.cache.v1 import cache_pb2 as pb
from services.cache.popular import Sketch
from services.common import errors
from services.common.rpc.client import unary
from tests.integration.cache.fleet import (
    CALL_SECONDS,
    ME,
    OTHER,
    TENANT,
    Gateway,
    Upstream,
    answer,
    asking,
    kind,
    lookup,
    replicas,
    store,
    until,
)

if TYPE_CHECKING:
    from tests.integration.cache.fleet import Stub


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Ledger:
    """What the counters said at the start, to compare with what they say now."""

    KINDS = ("hit", "stale", "following", "miss", "bypass", "time_dependent")

    def __init__(self) -> None:
        self._lookups = {kind: counted("focus_cache_lookups_total", result=kind) for kind in self.KINDS}
        self._saved = self._money()

    @staticmethod
    def _money() -> dict[str, float]:
        kinds = ("hit", "stale", "coalesced")
        return {kind: counted("focus_cache_saved_microusd_total", kind=kind) for kind in kinds}

    def lookups(self) -> dict[str, float]:
        """By kind, without those that did not occur."""
        now = {kind: counted("focus_cache_lookups_total", result=kind) for kind in self.KINDS}
        return {kind: now[kind] - self._lookups[kind] for kind in now if now[kind] > self._lookups[kind]}

    def saved(self) -> dict[str, float]:
        """Millionths of a dollar by kind, without those that did not occur."""
        now = self._money()
        return {kind: now[kind] - self._saved[kind] for kind in now if now[kind] > self._saved[kind]}


async def test_hit_rate_and_money_saved_are_those_of_the_log(valkey_cache: Valkey, tmp_path: Path) -> None:
    """A log of 1,000 askings by two tenants, of which some are time-dependent or no-cache, told by a plain model."""
    dice, expected, saved = random.Random(3), Counter[str](), 0
    known: dict[tuple[str, int], int] = {}
    ledger = Ledger()
    async with replicas(valkey_cache.url, tmp_path, 2) as stubs:
        for _ in range(1000):
            principal = dice.choice([ME, OTHER])
            number = min(int(dice.paretovariate(1)), 60)
            dated, fresh = dice.random() < 0.1, dice.random() < 0.1
            text = f"What happens today at {number}?" if dated else f"What is {number} squared?"
            cost = dice.randrange(1, 500)
            stub = dice.choice(stubs)
            found = await lookup(stub, asking(text), principal=principal, cache_control=pb.CacheControl(no_cache=fresh))
            place = (principal.tenant_id, number)
            if fresh:
                expected["bypass"] += 1
            elif dated:
                expected["time_dependent"] += 1
            elif place in known:
                expected["hit"] += 1
                saved += known[place]
                assert found.hit.answer.cost_microusd == known[place]
            else:
                expected["miss"] += 1
            if kind(found) == "miss":
                made = answer()
                made.cost_microusd = cost
                fill = found.miss.fill.token
                await store(stub, asking(text), made, principal=principal, fill_token=fill)
                if not dated:
                    known[place] = cost
    assert ledger.lookups() == expected
    assert ledger.saved() == {"hit": saved}


async def test_a_followed_answer_counts_as_money_saved(valkey_cache: Valkey, tmp_path: Path) -> None:
    ledger = Ledger()
    async with replicas(valkey_cache.url, tmp_path) as (stub,):
        upstream = Upstream(words=5, pause=0.2)
        gateway = Gateway(stub, upstream)
        first = gateway.ask(asking())
        await until(lambda: upstream.calls == 1)
        followers = [gateway.ask(asking()) for _ in range(9)]
        for one in (first, *followers):
            await one
        await gateway.kill()
    assert ledger.lookups() == {"miss": 1, "following": 9}
    assert ledger.saved() == {"coalesced": 9 * answer().cost_microusd}


async def test_a_damaged_and_an_old_value_are_counted_misses(valkey_cache: Valkey, tmp_path: Path) -> None:
    async with replicas(valkey_cache.url, tmp_path) as (stub,):
        for value, why in (("damaged", "version"), ("\x01\x00\x00" + "x" * 40, "corrupt")):
            await store(stub, asking())
            lines = valkey_cache.command("KEYS", "fc:*").decode().split("\r\n")
            (name,) = [line for line in lines if line.startswith("fc:") and line != "fc:{marks}"]
            valkey_cache.command("HSET", name, "v", value)
            before = counted("focus_cache_unreadable_total", why=why)
            found = await lookup(stub, asking())
            assert found.miss.fill.leased
            assert counted("focus_cache_unreadable_total", why=why) == before + 1
            await unary(
                stub.Release,
                pb.ReleaseRequest(fills=[pb.ReleaseRequest.Ended(token=found.miss.fill.token)]),
                timeout=CALL_SECONDS,
            )


def test_the_sketch_keeps_the_heavy_hitters_of_a_long_stream() -> None:
    """Space-Saving's promise: too high by at most n/m, and nobody above that is missing."""
    dice, truth, sketch = random.Random(5), Counter[bytes](), Sketch(50)
    for _ in range(20_000):
        item = str(int(dice.paretovariate(0.8))).encode()
        truth[item] += 1
        sketch.note(item)
    error = 20_000 // 50
    assert len(sketch.counts) == 50
    assert all(truth[item] <= count <= truth[item] + error for item, count in sketch.counts.items())
    assert {item for item, count in truth.items() if count > error} <= set(sketch.counts)


async def popular(stub: Stub, **wishes: object) -> list[tuple[str, int]]:
    reply = await unary(stub.ListPopular, pb.ListPopularRequest(**wishes), timeout=CALL_SECONDS)  # type: ignore[arg-type]
    return [(one.question.text, one.count) for one in reply.questions]


async def test_what_a_tenant_asks_most_is_listed_where_it_may_be_kept(valkey_cache: Valkey, tmp_path: Path) -> None:
    async with replicas(valkey_cache.url, tmp_path) as (stub,):
        for text, count in (("Often?", 5), ("Sometimes?", 2)):
            for _ in range(count):
                await lookup(stub, asking(text), may_learn=True)
        await lookup(stub, asking("Neighbour's?"), principal=OTHER, may_learn=True)
        # None of these may be kept.
        await lookup(stub, asking("Secret?"))
        await lookup(stub, asking("Mine?"), may_learn=True, scope=pb.Scope.SCOPE_PERSON)
        await lookup(stub, asking("Gone?"), may_learn=True, cache_control=pb.CacheControl(no_store=True))
        assert await popular(stub, tenant_ids=[TENANT]) == [("Often?", 5), ("Sometimes?", 2)]
        assert await popular(stub, tenant_ids=[TENANT], limit=1) == [("Often?", 5)]
        assert sorted(await popular(stub)) == [("Neighbour's?", 1), ("Often?", 5), ("Sometimes?", 2)]
        await lookup(stub, asking("often"), may_learn=True)
        assert (await popular(stub, tenant_ids=[TENANT]))[0] == ("Often?", 6)
        reply = await unary(stub.ListPopular, pb.ListPopularRequest(), timeout=CALL_SECONDS)
        assert all(not one.principal.person_id for one in reply.questions)
        # Nothing of it can be read in the store.
        with redis.Redis.from_url(valkey_cache.url) as client:
            kept = [value for name in client.scan_iter("fc:*:texts") for value in client.hvals(name)]
        assert len(kept) == 3
        assert all(b"Often" not in value for value in kept)
        with pytest.raises(errors.InvalidRequest):
            await popular(stub, limit=1001)
