"""Warming against a real cache: it generates what is missing or ends soon, within its share."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.valkey import Valkey
from focus.cache.v1 import cache_pb2 as pb
from focus.cache.v1.entry_pb2 import Origin
from focus.llm.v1 import llm_pb2
from services.cache.app import app
from services.cache.settings import CacheSettings
from services.common import errors
from services.common.rpc.client import open_channel
from services.warming.app import GrpcCache
from services.warming.questions import Popular, chosen
from services.warming.run import Run
from services.warming.warmer import Warmer
from tests.integration.cache.fleet import ME, SECRET, TENANT, answer, asking


class Models:
    """Answers at once or after a while, and tells the quota that it was given."""

    def __init__(self) -> None:
        self.asked: list[llm_pb2.CompleteRequest] = []
        self.pause = 0.0
        self.failure: errors.FocusError | None = None
        self.told = llm_pb2.ShowQuotaResponse()

    async def complete(self, request: llm_pb2.CompleteRequest, timeout: float) -> llm_pb2.CompleteResponse:
        self.asked.append(request)
        await asyncio.sleep(self.pause)
        if self.failure is not None:
            raise self.failure
        text = request.prompt.messages[-1].parts[0].text
        return llm_pb2.CompleteResponse(answer=answer(f"The answer to {text}"))

    async def quota(self) -> llm_pb2.ShowQuotaResponse:
        return self.told


@pytest.fixture
async def cache(valkey_cache: Valkey, tmp_path: Path) -> AsyncIterator[GrpcCache]:
    (tmp_path / "hmac").write_bytes(SECRET)
    settings = CacheSettings(
        valkey_url=valkey_cache.url, secrets_dir=tmp_path, valkey_timeout_seconds=1.0, stop_grace_seconds=0.1
    )
    async with app(settings) as running, open_channel(f"127.0.0.1:{running.port}") as channel:
        yield GrpcCache(channel)


def questions(*texts: str) -> list[Popular]:
    return chosen(texts, [], [TENANT])


async def warm(
    cache: GrpcCache, models: Models, wanted: list[Popular], *, ahead: int = 600, per_minute: float = 1e9
) -> Counter[str]:
    warmer = Warmer(cache, models, ahead_seconds=ahead, question_seconds=10)
    run = Run(warmer, models, share=0.1, unlimited=per_minute, tell=lambda done, total, said: None, look_seconds=0.05)
    return await run.warm(wanted)


async def look_up(cache: GrpcCache, text: str) -> pb.LookupResponse:
    return await cache.look_up(pb.LookupRequest(principal=ME, question=asking(text)), 5)


async def test_what_is_missing_is_generated_at_the_lowest_priority_and_found_afterwards(cache: GrpcCache) -> None:
    models = Models()
    assert await warm(cache, models, questions("One?", "Two?")) == {"stored": 2}
    assert [one.prompt.priority for one in models.asked] == [llm_pb2.PRIORITY_WARMING] * 2
    hit = (await look_up(cache, "two")).hit
    assert hit.answer.text == "The answer to Two?"
    assert hit.origin == Origin.ORIGIN_WARMING


async def test_what_lives_long_enough_is_left_alone_and_what_ends_soon_is_not(cache: GrpcCache) -> None:
    models = Models()
    await warm(cache, models, questions("One?"))
    assert await warm(cache, models, questions("One?"), ahead=600) == {"fresh": 1}
    assert len(models.asked) == 1
    assert await warm(cache, models, questions("One?"), ahead=3600) == {"stored": 1}
    assert len(models.asked) == 2


async def test_a_time_dependent_question_is_not_warmed(cache: GrpcCache) -> None:
    models = Models()
    assert await warm(cache, models, questions("What is the weather today?")) == {"skipped": 1}
    assert not models.asked


async def test_what_somebody_generates_is_left_to_them(cache: GrpcCache) -> None:
    models = Models()
    request = pb.LookupRequest(principal=ME, question=asking("One?"), single_flight=True)
    assert (await cache.look_up(request, 5)).miss.fill.leased
    assert await warm(cache, models, questions("One?")) == {"skipped": 1}
    assert not models.asked


async def test_a_long_answer_keeps_its_lease(cache: GrpcCache) -> None:
    models = Models()
    models.pause = 2.5
    warming = asyncio.create_task(warm(cache, models, questions("One?")))
    await asyncio.sleep(2.2)
    request = pb.LookupRequest(principal=ME, question=asking("One?"), single_flight=True)
    assert (await cache.look_up(request, 5)).HasField("following")
    assert await warming == {"stored": 1}


async def test_a_failure_gives_the_lease_up_and_many_end_the_run(cache: GrpcCache) -> None:
    models = Models()
    models.failure = errors.Unavailable("Down.")
    outcome = await warm(cache, models, questions(*(f"Number {n}?" for n in range(20))))
    assert outcome == {"failed": 5, "left": 15}
    request = pb.LookupRequest(principal=ME, question=asking("Number 0?"), single_flight=True)
    assert (await cache.look_up(request, 5)).miss.fill.leased


async def test_it_never_takes_more_than_its_share(cache: GrpcCache) -> None:
    """60,000 calls a minute of which a tenth, two to an answer: 50 answers a second."""
    models = Models()
    models.told = llm_pb2.ShowQuotaResponse(pools=[llm_pb2.ShowQuotaResponse.Pool(calls_limit=60_000)])
    started = time.monotonic()
    assert await warm(cache, models, questions(*(f"Number {n}?" for n in range(60)))) == {"stored": 60}
    assert time.monotonic() - started >= 59 / 50


async def test_a_days_share_ends_the_run(cache: GrpcCache) -> None:
    models = Models()
    pool = llm_pb2.ShowQuotaResponse.Pool(calls_limit=600_000, day_calls_limit=100)
    models.told = llm_pb2.ShowQuotaResponse(pools=[pool])
    outcome = await warm(cache, models, questions(*(f"Number {n}?" for n in range(20))))
    assert outcome == {"stored": 5, "left": 15}


async def test_it_waits_while_others_need_the_quota(cache: GrpcCache) -> None:
    models = Models()
    models.told = llm_pb2.ShowQuotaResponse(queues=[llm_pb2.ShowQuotaResponse.Queue(interactive=1)])
    warming = asyncio.create_task(warm(cache, models, questions("One?")))
    await asyncio.sleep(0.4)
    assert not models.asked
    models.told = llm_pb2.ShowQuotaResponse()
    assert await warming == {"stored": 1}
