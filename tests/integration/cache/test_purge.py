"""What was purged is found nowhere a second later, and nothing else is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devstack.valkey import Valkey
from focus.cache.v1 import cache_pb2 as pb
from services.common import errors
from services.common.rpc.client import unary
from tests.integration.cache.fleet import (
    CALL_SECONDS,
    ME,
    NEIGHBOUR,
    OTHER,
    TENANT,
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
async def stubs(valkey_cache: Valkey, tmp_path: Path) -> AsyncIterator[list[Stub]]:
    async with replicas(valkey_cache.url, tmp_path, 2) as two:
        yield two


async def purge(stub: Stub, **what: Any) -> None:
    await unary(stub.Purge, pb.PurgeRequest(**what), timeout=CALL_SECONDS)
    await asyncio.sleep(1)


async def stored(stub: Stub) -> list[bytes]:
    """Three answers: ours, ours of another model with a tag, and a neighbour's."""
    senior = answer("Tagged.")
    senior.model = "senior"
    entries = [
        await store(stub, asking("One?")),
        await store(stub, asking("Two?"), senior, tags=["geography"]),
        await store(stub, asking("One?"), principal=OTHER),
    ]
    return [one.entry for one in entries]


async def found(stub: Stub) -> list[str | None]:
    return [
        kind(await lookup(stub, asking("One?"))),
        kind(await lookup(stub, asking("Two?"))),
        kind(await lookup(stub, asking("One?"), principal=OTHER)),
    ]


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ({"tenant_ids": [TENANT]}, ["miss", "miss", "hit"]),
        ({"tenant_ids": [NEIGHBOUR.upper()]}, ["hit", "hit", "miss"]),
        ({"models": ["senior"]}, ["hit", "miss", "hit"]),
        ({"tags": ["geography"]}, ["hit", "miss", "hit"]),
        ({"everything": True}, ["miss", "miss", "miss"]),
        ({"tags": ["another"]}, ["hit", "hit", "hit"]),
    ],
    ids=["tenant", "another-tenant", "model", "tag", "everything", "control-unknown-tag"],
)
async def test_what_is_named_is_gone_on_every_replica_within_a_second(
    stubs: list[Stub], what: dict[str, Any], left: list[str]
) -> None:
    await stored(stubs[0])
    await purge(stubs[0], **what)
    assert await found(stubs[1]) == left


async def test_a_single_answer_can_be_purged(stubs: list[Stub]) -> None:
    entries = await stored(stubs[0])
    await purge(stubs[1], entries=[entries[0]])
    assert await found(stubs[0]) == ["miss", "hit", "hit"]


async def test_what_is_stored_after_a_purge_is_believed(stubs: list[Stub]) -> None:
    await stored(stubs[0])
    await purge(stubs[0], everything=True)
    await stored(stubs[1])
    assert await found(stubs[0]) == ["hit", "hit", "hit"]


async def test_what_was_being_generated_is_purged_too(stubs: list[Stub]) -> None:
    """Nobody follows it any more, and its answer is dead when it is stored."""
    fill = (await lookup(stubs[0], asking())).miss.fill
    assert kind(await lookup(stubs[1], asking())) == "following"
    await purge(stubs[0], tenant_ids=[TENANT])
    assert kind(await lookup(stubs[1], asking())) == "miss"
    await store(stubs[0], asking(), fill_token=fill.token)
    assert kind(await lookup(stubs[1], asking())) == "miss"


async def test_a_purge_holds_when_its_marks_are_lost(stubs: list[Stub], valkey_cache: Valkey) -> None:
    """Evicted marks cost hits, never a purge: what is older than the loss is dead."""
    await stored(stubs[0])
    await purge(stubs[0], tags=["geography"])
    valkey_cache.command("DEL", "fc:{marks}")
    await asyncio.sleep(1)
    assert await found(stubs[1]) == ["miss", "miss", "miss"]


async def test_a_purge_that_names_nothing_is_refused(stubs: list[Stub]) -> None:
    with pytest.raises(errors.InvalidRequest):
        await purge(stubs[0])


async def test_a_purge_that_cannot_be_promised_fails(stubs: list[Stub], valkey_cache: Valkey) -> None:
    valkey_cache.process.pause()
    try:
        with pytest.raises(errors.Unavailable):
            await purge(stubs[0], everything=True)
    finally:
        valkey_cache.process.resume()


async def test_public_entries_are_an_operators_and_everybodys(stubs: list[Stub]) -> None:
    put = pb.PutPublicRequest(question=asking("Who are you?"), answer=answer("Focus AI."), tags=["about"])
    entry = (await unary(stubs[0].PutPublic, put, timeout=CALL_SECONDS)).entry
    await asyncio.sleep(1)
    for principal in (ME, OTHER):
        hit = (await lookup(stubs[1], asking("who are you"), principal=principal, may_refresh=True)).hit
        assert hit.answer.text == "Focus AI."
        # A tenant's thumb or traffic never changes what belongs to all.
        assert not hit.entry
        assert not hit.HasField("refresh")
    await store(stubs[0], asking("Who are you?"), answer("Mine."))
    assert (await lookup(stubs[1], asking("Who are you?"), principal=OTHER)).hit.answer.text == "Focus AI."
    await purge(stubs[0], entries=[entry])
    assert (await lookup(stubs[1], asking("Who are you?"))).hit.answer.text == "Mine."
    assert kind(await lookup(stubs[1], asking("Who are you?"), principal=OTHER)) == "miss"


async def test_a_public_answer_that_may_not_be_kept_is_refused(stubs: list[Stub]) -> None:
    put = pb.PutPublicRequest(question=asking("What time is it?"), answer=answer())
    with pytest.raises(errors.InvalidRequest, match="time dependent"):
        await unary(stubs[0].PutPublic, put, timeout=CALL_SECONDS)
