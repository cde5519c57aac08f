"""Lookup and Store over gRPC with a real Valkey."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from devstack.valkey import Valkey
from focus.cache.v1.cache_pb2 import LookupRequest, LookupResponse, Question, StoreRequest
from focus.cache.v1.cache_pb2_grpc import CacheServiceStub
from focus.chat.v1.chat_pb2 import Answer, FinishReason, Mode, Principal
from services.cache.app import app
from services.cache.settings import CacheSettings
from services.common import errors
from services.common.rpc.client import open_channel, unary

ME = Principal(tenant_id="7b0c0f9a-0000-4000-8000-000000000001", person_id="7b0c0f9a-0000-4000-8000-0000000000aa")
NEIGHBOUR = Principal(tenant_id="7b0c0f9a-0000-4000-8000-000000000002", person_id=ME.person_id)
ANSWER = Answer(
    text="Brasília.", model="junior", confidence=0.9, finish_reason=FinishReason.FINISH_REASON_STOP, cost_microusd=12
)


def asking(text: str = "What is the capital of Brazil?") -> Question:
    return Question(text=text, mode=Mode.MODE_AUTO)


class Cache:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = CacheServiceStub(channel)

    async def lookup(self, question: Question, principal: Principal = ME) -> LookupResponse:
        return await unary(self._stub.Lookup, LookupRequest(principal=principal, question=question), timeout=5)

    async def store(self, question: Question, answer: Answer = ANSWER) -> bool:
        request = StoreRequest(principal=ME, question=question, answer=answer)
        return (await unary(self._stub.Store, request, timeout=5)).stored


@pytest.fixture
async def cache(valkey_cache: Valkey, tmp_path: Path) -> AsyncIterator[Cache]:
    (tmp_path / "hmac").write_bytes(b"0123456789abcdef")
    settings = CacheSettings(valkey_url=valkey_cache.url, secrets_dir=tmp_path, stop_grace_seconds=1)
    async with app(settings) as running, open_channel(f"127.0.0.1:{running.port}") as channel:
        yield Cache(channel)


async def test_an_answer_that_was_stored_is_found_for_the_same_words(cache: Cache) -> None:
    assert (await cache.lookup(asking())).WhichOneof("result") == "miss"
    assert await cache.store(asking())
    found = await cache.lookup(asking("what is the  capital of brazil"))
    assert found.hit.answer == ANSWER
    assert found.hit.stored_at.seconds > 0


async def test_another_tenant_does_not_find_it(cache: Cache) -> None:
    await cache.store(asking())
    assert (await cache.lookup(asking(), NEIGHBOUR)).WhichOneof("result") == "miss"


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


async def test_without_valkey_a_look_up_is_a_miss_and_a_store_says_no(cache: Cache, valkey_cache: Valkey) -> None:
    assert await cache.store(asking())
    valkey_cache.process.pause()
    try:
        assert (await cache.lookup(asking("Another?"))).WhichOneof("result") == "miss"
    finally:
        valkey_cache.process.resume()
    assert (await cache.lookup(asking())).hit.answer == ANSWER


@pytest.mark.parametrize(
    ("principal", "question"),
    [(Principal(), asking()), (ME, asking("  ")), (ME, asking("x" * (1 << 18) + "y"))],
)
async def test_what_is_no_question_is_refused_before_any_work(
    cache: Cache, principal: Principal, question: Question
) -> None:
    with pytest.raises(errors.InvalidRequest):
        await cache.lookup(question, principal)
