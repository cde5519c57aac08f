"""One of many identical questions goes upstream; the others see its answer live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devstack.valkey import Valkey
from focus.cache.v1 import cache_pb2 as pb
from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.rpc.client import stream, unary
from tests.integration.cache.fleet import (
    CALL_SECONDS,
    ME,
    OTHER,
    Gateway,
    Upstream,
    answer,
    asking,
    lookup,
    replicas,
    store,
    until,
)

if TYPE_CHECKING:
    from tests.integration.cache.fleet import Stub


@pytest.fixture
async def stubs(valkey_cache: Valkey, tmp_path: Path) -> AsyncIterator[list[Stub]]:
    async with replicas(valkey_cache.url, tmp_path, 3) as three:
        yield three


async def follow(stub: Stub, token: bytes) -> list[pb.FollowResponse]:
    request = pb.FollowRequest(principal=ME, token=token)
    return [message async for message in stream(stub.Follow, request, timeout=CALL_SECONDS)]


async def stampede(stubs: list[Stub], upstream: Upstream, count: int, **options: bool) -> list[list[str]]:
    gateways = [Gateway(stub, upstream, **options) for stub in stubs]
    said = await asyncio.gather(*(gateways[n % 3].ask(asking()) for n in range(count)))
    for gateway in gateways:
        await gateway.kill()
    return [one.deltas for one in said if one.how != "hit"]


async def test_of_a_thousand_identical_questions_one_goes_upstream(stubs: list[Stub]) -> None:
    """Over three gateways and three replicas; all who follow see the very deltas of the filler."""
    upstream = Upstream(words=20, pause=0.25)
    deltas = await stampede(stubs, upstream, 1000)
    assert upstream.calls == 1
    assert len(deltas) == 1000
    assert all(one == deltas[0] for one in deltas)
    assert len(deltas[0]) == 20


async def test_control_without_single_flight_all_go_upstream(stubs: list[Stub]) -> None:
    upstream = Upstream(words=2, pause=0.5)
    await stampede(stubs, upstream, 60, single_flight=False)
    assert upstream.calls > 50


async def test_nothing_is_published_while_nobody_follows(stubs: list[Stub], valkey_cache: Valkey) -> None:
    gateway = Gateway(stubs[0], Upstream(words=20, pause=0.05))
    await gateway.ask(asking())
    assert gateway.published == 0
    await gateway.kill()


async def test_a_late_follower_gets_the_backlog_first(stubs: list[Stub]) -> None:
    upstream = Upstream(words=30, pause=0.05)
    first, second = Gateway(stubs[0], upstream), Gateway(stubs[1], upstream)
    leading = first.ask(asking())
    await until(lambda: upstream.calls == 1)
    await asyncio.sleep(0.5)
    followed = await second.ask(asking())
    assert followed.how == "followed"
    assert followed.deltas == (await leading).deltas
    await first.kill()
    await second.kill()


async def test_when_the_filler_dies_another_takes_over_within_two_seconds(stubs: list[Stub]) -> None:
    """Killed in the middle of its stream, after followers saw part of it: each sees one clean answer."""
    upstream = Upstream(words=40, pause=0.05)
    doomed = Gateway(stubs[0], upstream)
    doomed.ask(asking())
    await until(lambda: upstream.calls == 1)
    others = [Gateway(stub, upstream) for stub in stubs]
    asked = [gateway.ask(asking()) for gateway in others for _ in range(10)]
    await until(lambda: doomed.published > 5)
    killed = time.monotonic()
    await doomed.kill()
    said = await asyncio.gather(*asked)
    assert upstream.calls == 2
    assert upstream.begun[1] - killed <= 2.0
    assert sorted(one.how for one in said) == ["followed"] * 29 + ["led"]
    assert {one.text for one in said} == {"".join(f"word {n} of answer 2; " for n in range(40))}
    for gateway in others:
        await gateway.kill()


async def test_control_a_slow_filler_that_lives_is_not_robbed(stubs: list[Stub]) -> None:
    """The same length without the killing: its lease outlives several of its terms."""
    upstream = Upstream(words=3, pause=1.2)
    first, second = Gateway(stubs[0], upstream), Gateway(stubs[1], upstream)
    leading = first.ask(asking())
    await until(lambda: upstream.calls == 1)
    assert (await second.ask(asking())).text == (await leading).text
    assert upstream.calls == 1
    await first.kill()
    await second.kill()


async def test_a_filler_that_gives_up_is_replaced_at_once(stubs: list[Stub]) -> None:
    fill = (await lookup(stubs[0], asking())).miss.fill
    token = (await lookup(stubs[1], asking())).following.token
    following = asyncio.create_task(follow(stubs[1], token))
    await unary(
        stubs[0].Release, pb.ReleaseRequest(fills=[pb.ReleaseRequest.Ended(token=fill.token)]), timeout=CALL_SECONDS
    )
    (last,) = await following
    assert last.lead.fill.leased


async def test_a_failure_reaches_all_followers(stubs: list[Stub]) -> None:
    """They are not sent upstream one by one, each to find the provider down."""
    fill = (await lookup(stubs[0], asking())).miss.fill
    token = (await lookup(stubs[1], asking())).following.token
    following = [asyncio.create_task(follow(stub, token)) for stub in stubs]
    failure = pb.FillFailure(
        reason=ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE, message="The provider is down.", retry_after_ms=2000
    )
    ended = pb.ReleaseRequest.Ended(token=fill.token, failure=failure)
    await unary(stubs[0].Release, pb.ReleaseRequest(fills=[ended]), timeout=CALL_SECONDS)
    for messages in await asyncio.gather(*following):
        assert [one.failed for one in messages] == [failure]


async def test_an_answer_that_may_not_be_kept_still_reaches_its_followers(stubs: list[Stub]) -> None:
    fill = (await lookup(stubs[0], asking())).miss.fill
    token = (await lookup(stubs[1], asking())).following.token
    following = asyncio.create_task(follow(stubs[1], token))
    unsure = answer("Perhaps Brasília.", confidence=0.0)
    unsure.confidence = 0.1
    reply = await store(stubs[2], asking(), unsure, fill_token=fill.token)
    assert (reply.stored, reply.reason) == (False, pb.NotStored.NOT_STORED_UNSURE)
    messages = await following
    assert "".join(one.piece.delta for one in messages) == "Perhaps Brasília."
    assert messages[-1].finished.answer == unsure
    assert messages[-1].finished.entry == b""
    assert (await lookup(stubs[0], asking())).miss.fill.leased


async def test_a_slow_follower_holds_nobody_up(stubs: list[Stub]) -> None:
    """One reads nothing at all while close to a megabyte is published; filler and the other follower finish."""
    fill = (await lookup(stubs[0], asking())).miss.fill
    token = (await lookup(stubs[1], asking())).following.token
    slow = stubs[1].Follow(pb.FollowRequest(principal=ME, token=token), timeout=CALL_SECONDS)
    brisk = asyncio.create_task(follow(stubs[1], token))
    await asyncio.sleep(0.2)
    text, have = "x" * 50_000, 0
    while have < 18:
        one = pb.RenewRequest.Renewal(token=fill.token, first=have, events=[pb.FillEvent(delta=text)])
        reply = await unary(stubs[0].Renew, pb.RenewRequest(renewals=[one]), timeout=CALL_SECONDS)
        have = reply.renewed[0].have
    whole = answer(text * 18)
    await store(stubs[0], asking(), whole, fill_token=fill.token)
    messages = await brisk
    assert "".join(one.piece.delta for one in messages) == whole.text
    slow.cancel()


async def test_another_tenant_neither_follows_nor_waits(stubs: list[Stub]) -> None:
    assert (await lookup(stubs[0], asking())).miss.fill.leased
    assert (await lookup(stubs[0], asking(), principal=OTHER)).miss.fill.leased


async def test_who_cannot_follow_generates_alone(stubs: list[Stub]) -> None:
    await lookup(stubs[0], asking())
    alone = await lookup(stubs[0], asking(), single_flight=False)
    assert alone.miss.fill.token
    assert not alone.miss.fill.leased
