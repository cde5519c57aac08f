"""Stale answers are given and refreshed by one; Cache-Control is honoured; thumbs count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devstack.valkey import Valkey
from focus.cache.v1 import cache_pb2 as pb
from focus.cache.v1.entry_pb2 import Origin
from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import errors
from services.common.rpc.client import stream, unary
from tests.integration.cache.fleet import (
    CALL_SECONDS,
    ME,
    OTHER,
    answer,
    asking,
    kind,
    lookup,
    replicas,
    store,
)

if TYPE_CHECKING:
    from tests.integration.cache.fleet import Stub


@pytest.fixture
async def stub(valkey_cache: Valkey, tmp_path: Path) -> AsyncIterator[Stub]:
    async with replicas(valkey_cache.url, tmp_path) as (one,):
        yield one


def short_lived(
    valkey: Valkey, folder: Path, *, stale: int = 60, on_error: int = 60, count: int = 1
) -> AbstractAsyncContextManager[list[Stub]]:
    """Replicas whose answers live one second."""
    return replicas(
        valkey.url,
        folder,
        count,
        ttl_seconds=1,
        max_ttl_seconds=1,
        stale_while_revalidate_seconds=stale,
        stale_if_error_seconds=on_error,
    )


def control(**wishes: Any) -> pb.CacheControl:
    return pb.CacheControl(**wishes)


async def test_revalidation_blocks_nobody(valkey_cache: Valkey, tmp_path: Path) -> None:
    """All get the stale answer at once, one of them the refresh with it; also while that is under way."""
    async with short_lived(valkey_cache, tmp_path, count=3) as stubs:
        await store(stubs[0], asking())
        await asyncio.sleep(1.2)
        found = await asyncio.gather(*(lookup(stubs[n % 3], asking(), may_refresh=True) for n in range(90)))
        assert all(kind(one) == "hit" and one.hit.stale for one in found)
        (refresh,) = [one.hit.refresh for one in found if one.hit.HasField("refresh")]
        assert refresh.leased
        later = await lookup(stubs[1], asking(), may_refresh=True)
        assert later.hit.stale
        assert not later.hit.HasField("refresh")
        made = answer("Brasília, still.")
        await store(stubs[0], asking(), made, fill_token=refresh.token, origin=Origin.ORIGIN_REFRESH)
        renewed = await lookup(stubs[2], asking(), may_refresh=True)
        assert renewed.hit.answer == made
        assert not renewed.hit.stale
        assert renewed.hit.origin == Origin.ORIGIN_REFRESH


async def test_control_without_stale_while_revalidate_they_wait(valkey_cache: Valkey, tmp_path: Path) -> None:
    async with short_lived(valkey_cache, tmp_path, stale=0, on_error=0) as (stub,):
        await store(stub, asking())
        await asyncio.sleep(1.2)
        found = [kind(await lookup(stub, asking(), may_refresh=True)) for _ in range(5)]
        assert found == ["miss"] + ["following"] * 4


async def test_who_does_not_refresh_is_not_asked_to(valkey_cache: Valkey, tmp_path: Path) -> None:
    async with short_lived(valkey_cache, tmp_path) as (stub,):
        await store(stub, asking())
        await asyncio.sleep(1.2)
        assert not (await lookup(stub, asking())).hit.HasField("refresh")
        assert (await lookup(stub, asking(), may_refresh=True)).hit.HasField("refresh")


async def test_an_old_answer_comes_with_the_miss_for_when_generating_fails(
    valkey_cache: Valkey, tmp_path: Path
) -> None:
    async with short_lived(valkey_cache, tmp_path, stale=0) as (stub,):
        await store(stub, asking())
        await asyncio.sleep(1.2)
        found = await lookup(stub, asking())
        assert found.miss.fill.leased
        assert found.miss.stale_if_error.answer == answer()
        failure = pb.FillFailure(reason=ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE, message="Down.")
        ended = pb.ReleaseRequest.Ended(token=found.miss.fill.token, failure=failure)
        await unary(stub.Release, pb.ReleaseRequest(fills=[ended]), timeout=CALL_SECONDS)
        assert (await lookup(stub, asking())).miss.stale_if_error.answer == answer()


async def test_no_cache_asks_anew_and_stores(stub: Stub) -> None:
    await store(stub, asking())
    found = await lookup(stub, asking(), cache_control=control(no_cache=True))
    assert kind(found) == "miss"
    assert not found.miss.fill.leased
    await store(stub, asking(), answer("New."), fill_token=found.miss.fill.token)
    assert (await lookup(stub, asking())).hit.answer.text == "New."


async def test_no_store_may_be_answered_and_is_not_stored(stub: Stub) -> None:
    found = await lookup(stub, asking(), cache_control=control(no_store=True))
    assert kind(found) == "miss"
    assert not found.miss.HasField("fill")
    reply = await store(stub, asking(), no_store=True)
    assert (reply.stored, reply.reason) == (False, pb.NotStored.NOT_STORED_REQUESTED)
    assert kind(await lookup(stub, asking())) == "miss"
    await store(stub, asking())
    assert kind(await lookup(stub, asking(), cache_control=control(no_store=True))) == "hit"


async def test_only_if_cached_leads_and_follows_nobody(stub: Stub) -> None:
    for _ in range(2):
        found = await lookup(stub, asking(), cache_control=control(only_if_cached=True))
        assert kind(found) == "miss"
        assert not found.miss.HasField("fill")
    assert (await lookup(stub, asking())).miss.fill.leased
    assert kind(await lookup(stub, asking(), cache_control=control(only_if_cached=True))) == "miss"


async def test_max_age_takes_nothing_older(stub: Stub) -> None:
    await store(stub, asking())
    await asyncio.sleep(1.1)
    assert kind(await lookup(stub, asking(), cache_control=control(max_age_seconds=60))) == "hit"
    found = await lookup(stub, asking(), cache_control=control(max_age_seconds=1))
    assert found.miss.fill.leased
    assert not found.miss.HasField("stale_if_error")


async def test_a_persons_entry_answers_that_person_only(stub: Stub) -> None:
    colleague = pb.LookupRequest(principal=ME).principal
    colleague.person_id = "7b0c0f9a-0000-4000-8000-0000000000bb"
    await store(stub, asking(), scope=pb.Scope.SCOPE_PERSON)
    assert kind(await lookup(stub, asking(), scope=pb.Scope.SCOPE_PERSON)) == "hit"
    assert kind(await lookup(stub, asking(), principal=colleague, scope=pb.Scope.SCOPE_PERSON)) == "miss"
    assert kind(await lookup(stub, asking())) == "miss"
    await store(stub, asking(), scope=pb.Scope.SCOPE_TENANT)
    assert kind(await lookup(stub, asking(), principal=colleague)) == "hit"


async def test_a_thumbs_down_evicts_for_everyone_and_a_thumbs_up_does_not(stub: Stub) -> None:
    entry = (await store(stub, asking())).entry
    assert (await lookup(stub, asking())).hit.entry == entry
    up = pb.FeedbackRequest(principal=ME, entry=entry, verdict=pb.Verdict.VERDICT_UP)
    assert (await unary(stub.Feedback, up, timeout=CALL_SECONDS)).found
    assert kind(await lookup(stub, asking())) == "hit"
    down = pb.FeedbackRequest(principal=ME, entry=entry, verdict=pb.Verdict.VERDICT_DOWN)
    assert (await unary(stub.Feedback, down, timeout=CALL_SECONDS)).found
    assert kind(await lookup(stub, asking())) == "miss"
    assert not (await unary(stub.Feedback, down, timeout=CALL_SECONDS)).found
    # And the next answer is believed again.
    await store(stub, asking(), answer("Better."))
    assert (await lookup(stub, asking())).hit.answer.text == "Better."


@pytest.mark.parametrize("entry", ["", "e" * 41, "x"], ids=["none", "forged", "short"])
async def test_feedback_on_what_is_not_ones_own_is_refused(stub: Stub, entry: str) -> None:
    own = (await store(stub, asking())).entry
    for principal, token in ((OTHER, own), (ME, entry.encode())):
        request = pb.FeedbackRequest(principal=principal, entry=token, verdict=pb.Verdict.VERDICT_DOWN)
        with pytest.raises(errors.InvalidRequest):
            await unary(stub.Feedback, request, timeout=CALL_SECONDS)
    assert kind(await lookup(stub, asking())) == "hit"


@pytest.mark.parametrize("text", ["What time is it in Lisbon?", "Quem ganhou o jogo ontem?"])
async def test_a_time_dependent_question_is_neither_kept_nor_followed(stub: Stub, text: str) -> None:
    for _ in range(2):
        found = await lookup(stub, asking(text))
        assert kind(found) == "miss"
        assert not found.miss.HasField("fill")
    reply = await store(stub, asking(text))
    assert reply.reason == pb.NotStored.NOT_STORED_TIME_DEPENDENT


async def test_the_models_own_flag_keeps_an_answer_out(stub: Stub) -> None:
    reply = await store(stub, asking(), time_dependent=True)
    assert (reply.stored, reply.reason) == (False, pb.NotStored.NOT_STORED_TIME_DEPENDENT)
    assert kind(await lookup(stub, asking())) == "miss"


async def test_a_refusal_is_not_kept(stub: Stub) -> None:
    reply = await store(stub, asking(), answer("I'm sorry, but I can't help with that."))
    assert (reply.stored, reply.reason) == (False, pb.NotStored.NOT_STORED_REFUSAL)


async def test_a_token_of_another_question_stores_nothing_under_it(stub: Stub) -> None:
    fill = (await lookup(stub, asking("One?"))).miss.fill
    await store(stub, asking("Two?"), fill_token=fill.token)
    assert kind(await lookup(stub, asking("One?"))) == "following"
    assert kind(await lookup(stub, asking("Two?"))) == "hit"


@pytest.mark.parametrize("token", [b"x", b"l" + b"k" * 47, b"f" * 200], ids=["short", "cut", "long"])
async def test_malformed_tokens_are_refused(stub: Stub, token: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        await store(stub, asking(), fill_token=token)
    renew = pb.RenewRequest(renewals=[pb.RenewRequest.Renewal(token=token)])
    with pytest.raises(errors.InvalidRequest):
        await unary(stub.Renew, renew, timeout=CALL_SECONDS)
    follow = pb.FollowRequest(principal=ME, token=token)
    with pytest.raises(errors.InvalidRequest):
        await anext(stream(stub.Follow, follow, timeout=CALL_SECONDS))
