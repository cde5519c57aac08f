"""The processes of `bench llm`, each measured by itself.

python -m bench.llm_roles empty                a server whose Generate sends the same messages and does nothing
python -m bench.llm_roles load   < load.json   asks, tells latencies and gaps between deltas
python -m bench.llm_roles parts  < parts.json  CPU of a call's bare parts, and of google-genai
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
import grpc
import uvloop
from google import genai
from google.genai import types
from redis.asyncio import Redis

from focus.chat.v1 import chat_pb2
from focus.llm.v1 import llm_pb2
from focus.llm.v1.llm_pb2_grpc import LlmServiceServicer, LlmServiceStub, add_LlmServiceServicer_to_server
from services.common import logs
from services.common.rpc.client import open_channel
from services.common.rpc.server import serving
from services.common.settings import GrpcSettings
from services.llm.store import connection

TENANT = "7b0c0f9a-0000-4000-8000-000000000001"
QUESTION = "What is the capital of Brazil?"
MODEL = "gemini-3.5-flash-lite"
_TRIVIAL = "return 1"


@dataclass(frozen=True, slots=True)
class Load:
    """Questions to ask: `clients` one after another each for `seconds`; with `once` each asks one and ends."""

    target: str
    clients: int
    seconds: float
    question: str = QUESTION
    once: bool = False


@dataclass(slots=True)
class Outcome:
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    # Between a stream's deltas, in seconds.
    gaps: list[float] = field(default_factory=list)
    deltas: int = 0
    failed: int = 0


def request(question: str) -> llm_pb2.GenerateRequest:
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=question)])
    return llm_pb2.GenerateRequest(
        principal=chat_pb2.Principal(tenant_id=TENANT), prompt=llm_pb2.Prompt(messages=[message])
    )


async def _load(load: Load) -> Outcome:
    outcome = Outcome()
    asked = request(load.question)
    async with open_channel(load.target) as channel:
        generate: Any = LlmServiceStub(channel).Generate
        await channel.channel_ready()

        async def one() -> None:
            started = time.perf_counter()
            last = 0.0
            try:
                async for response in generate(asked, timeout=120):
                    if response.HasField("delta"):
                        now = time.perf_counter()
                        outcome.deltas += 1
                        if last:
                            outcome.gaps.append(now - last)
                        last = now
            except grpc.aio.AioRpcError:
                outcome.failed += 1
                return
            outcome.latencies.append(time.perf_counter() - started)

        async def client() -> None:
            await one()
            while not load.once and time.perf_counter() - begun < load.seconds:
                await one()

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(load.clients)))
        outcome.seconds = time.perf_counter() - begun
    return outcome


class _Empty(LlmServiceServicer):
    async def Generate(self, _request: Any, _call: Any) -> AsyncIterator[llm_pb2.GenerateResponse]:
        yield llm_pb2.GenerateResponse(delta=llm_pb2.GenerateResponse.Delta(text="The capital of Brazil is "))
        answer = chat_pb2.Answer(model=MODEL)
        yield llm_pb2.GenerateResponse(finished=llm_pb2.GenerateResponse.Finished(answer=answer))


async def _empty() -> None:
    # Its other methods are of no interest here.
    concrete: Any = _Empty
    servicer = concrete()
    async with serving(GrpcSettings(), lambda server: add_LlmServiceServicer_to_server(servicer, server), []) as it:
        print(it.port, flush=True)
        await asyncio.Event().wait()


async def _cpu(one: Callable[[], Awaitable[None]], count: int, at_once: int) -> float:
    """CPU milliseconds of this process for one."""

    async def several() -> None:
        for _ in range(count // at_once):
            await one()

    await asyncio.gather(*(one() for _ in range(at_once)))
    started = time.process_time()
    await asyncio.gather(*(several() for _ in range(at_once)))
    return (time.process_time() - started) * 1000 / (count // at_once * at_once)


async def _parts(base_url: str, key: str, valkey_url: str, count: int, at_once: int) -> dict[str, float]:
    body = json.dumps({"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}).encode()
    url = f"{base_url}/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"
    headers = {"x-goog-api-key": key, "content-type": "application/json"}
    redis = Redis.from_url(valkey_url)
    sha = await redis.script_load(_TRIVIAL)
    own = await connection.connect(valkey_url, 5)
    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=base_url, api_version="v1beta"))
    figures = {}
    async with aiohttp.ClientSession() as session:

        async def by_aiohttp() -> None:
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()

        async def by_genai() -> None:
            async for _ in await client.aio.models.generate_content_stream(model=MODEL, contents=QUESTION):
                pass

        async def by_redis_py() -> None:
            for _ in range(2):
                await redis.evalsha(sha, 0)

        async def by_own_connection() -> None:
            for _ in range(2):
                await connection.call(own, ("EVALSHA", sha, 0), 5)

        for name, one in (
            ("aiohttp", by_aiohttp),
            ("two scripts, redis-py", by_redis_py),
            ("two scripts, own connection", by_own_connection),
            ("google-genai", by_genai),
        ):
            figures[name] = await _cpu(one, count, at_once)
    own.close()
    await redis.aclose()
    return figures


def main(role: str) -> None:
    if role == "empty":
        logs.configure("empty")
        uvloop.run(_empty())
    elif role == "load":
        print(json.dumps(asdict(uvloop.run(_load(Load(**json.load(sys.stdin)))))))
    else:
        print(json.dumps(uvloop.run(_parts(**json.load(sys.stdin)))))


if __name__ == "__main__":
    main(sys.argv[1])
