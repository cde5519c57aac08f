"""Lookup and Store over gRPC with a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devstack.valkey import Valkey
from focus.cache.v1.cache_pb2 import LookupResponse, Question
from focus.chat.v1.chat_pb2 import Answer, FinishReason, Principal
from services.common import errors
from tests.integration.cache.fleet import ME, OTHER, asking, lookup, replicas, store

if TYPE_CHECKING:
    from tests.integration.cache.fleet import Stub

ANSWER = Answer(
    text="Brasília.", model="junior", confidence=0.9, finish_reason=FinishReason.FINISH_REASON_STOP, cost_microusd=12
)


class Cache:
    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    async def lookup(self, question: Question, principal: Principal = ME) -> LookupResponse:
        return await lookup(self._stub, question, principal=principal, single_flight=False)

    async def store(self, question: Question, answer: Answer = ANSWER) -> bool:
        return (await store(self._stub, question, answer)).stored


@pytest.fixture
async def cache(valkey_cache: Valkey, tmp_path: Path) -> AsyncIterator[Cache]:
    async with replicas(valkey_cache.url, tmp_path) as (stub,):
        yield Cache(stub)


async def test_an_answer_that_was_stored_is_found_for_the_same_words(cache: Cache) -> None:
    assert (await cache.lookup(asking())).WhichOneof("result") == "miss"
    assert await cache.store(asking())
    found = await cache.lookup(asking("what is the  capital of brazil"))
    assert found.hit.answer == ANSWER
    assert found.hit.stored_at.seconds > 0


async def test_another_tenant_does_not_find_it(cache: Cache) -> None:
    await cache.store(asking())
    assert (await cache.lookup(asking(), OTHER)).WhichOneof("result") == "miss"


@pytest.mark.parametrize(
    "change",
    [
        Answer(finish_reason=FinishReason.FINISH_REASON_MAX_TOKENS),
        Answer(finish_reason=FinishReason.FINISH_REASON_SAFETY),
        Answer(finish_reason=FinishReason.FINISH_REASON_CANCELLED),
        Answer(confidence=0.1),
        Answer(confidence=float("nan")),
    ],
)
async def test_cut_refused_and_unsure_answers_are_not_kept(cache: Cache, change: Answer) -> None:
    answer = Answer()
    answer.CopyFrom(ANSWER)
    answer.MergeFrom(change)
    assert not await cache.store(asking(), answer)
    assert (await cache.lookup(asking())).WhichOneof("result") == "miss"


async def test_a_damaged_value_is_a_miss(cache: Cache, valkey_cache: Valkey) -> None:
    await cache.store(asking())
    lines = valkey_cache.command("KEYS", "fc:*").decode().split("\r\n")
    (key,) = [line for line in lines if line.startswith("fc:") and line != "fc:{marks}"]
    assert valkey_cache.command("HSET", key, "v", "damaged") == b":0\r\n"
    assert (await cache.lookup(asking())).WhichOneof("result") == "miss"


@pytest.mark.parametrize(
    ("principal", "question"),
    [(Principal(), asking()), (ME, asking("  ")), (ME, asking("x" * (1 << 18) + "y"))],
)
async def test_what_is_no_question_is_refused_before_any_work(
    cache: Cache, principal: Principal, question: Question
) -> None:
    with pytest.raises(errors.InvalidRequest):
        await cache.lookup(question, principal)
