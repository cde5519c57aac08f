"""The processes of `bench cache`, each measured by itself.

python -m bench.cache_roles empty               a server whose Lookup does nothing, port on standard output
python -m bench.cache_roles load  < load.json   sends look-ups, tells latencies
python -m bench.cache_roles get   < get.json    reads with redis-py and with the service's own client
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import grpc
import uvloop
from redis.asyncio import Redis

from focus.cache.v1 import cache_pb2 as pb
from focus.cache.v1.cache_pb2_grpc import CacheServiceServicer, CacheServiceStub, add_CacheServiceServicer_to_server
from focus.chat.v1.chat_pb2 import Mode, Principal
from services.cache.valkey.client import Client
from services.cache.valkey.connection import Address
from services.common import logs
from services.common.rpc.client import open_channel
from services.common.rpc.server import serving
from services.common.settings import GrpcSettings

TENANT = "7b0c0f9a-0000-4000-8000-000000000001"
_CALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Load:
    """Look-ups to send: `clients` one after another each, or at `rate` a second whatever the answers do."""

    target: str
    # How many stored questions there are to ask; 0: empty requests.
    entries: int
    seconds: float
    clients: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    seconds: float
    # Of answered look-ups, in seconds.
    latencies: list[float]
    hits: int
    failed: int


def text(number: int) -> str:
    """The question with this number."""
    return f"What is the square of {number}, and how is it found?"


def request(number: int, entries: int) -> pb.LookupRequest:
    """The look-up of a question, spread over all of them; empty without any."""
    if not entries:
        return pb.LookupRequest()
    # A large odd step visits all numbers in no order that a store could make use of.
    question = pb.Question(text=text(number * 7_368_787 % entries), mode=Mode.MODE_AUTO)
    return pb.LookupRequest(principal=Principal(tenant_id=TENANT), question=question, single_flight=True)


async def _load(load: Load) -> Outcome:
    numbers, latencies, hits, failed = itertools.count(), [], 0, 0
    async with open_channel(load.target) as channel:
        lookup: Any = CacheServiceStub(channel).Lookup
        await channel.channel_ready()
        begun = time.perf_counter()

        async def one(due: float) -> None:
            nonlocal hits, failed
            try:
                found = await lookup(request(next(numbers), load.entries), timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError:
                failed += 1
                return
            latencies.append(time.perf_counter() - due)
            hits += found.HasField("hit")

        async def client() -> None:
            while time.perf_counter() - begun < load.seconds:
                await one(time.perf_counter())

        if load.clients:
            await asyncio.gather(*(client() for _ in range(load.clients)))
        else:
            sent: set[asyncio.Task[None]] = set()
            for index in range(int(load.rate * load.seconds)):
                # Latency counts from when it was due: a sender that is late must not hide a wait.
                due = begun + index / load.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                task = asyncio.create_task(one(due))
                sent.add(task)
                task.add_done_callback(sent.discard)
            await asyncio.gather(*sent)
        return Outcome(time.perf_counter() - begun, latencies, hits, failed)


class _Empty(CacheServiceServicer):
    async def Lookup(self, _request: pb.LookupRequest, _call: Any) -> pb.LookupResponse:
        return pb.LookupResponse()


async def _empty() -> None:
    # Its other methods are of no interest here.
    concrete: Any = _Empty
    servicer = concrete()
    async with serving(GrpcSettings(), lambda server: add_CacheServiceServicer_to_server(servicer, server), []) as it:
        print(it.port, flush=True)
        await asyncio.Event().wait()


async def _get(url: str, name: str, count: int, at_once: int) -> dict[str, float]:
    """CPU milliseconds of this process for one read of a value."""
    redis = Redis.from_url(url)
    client = Client(Address.parse(url), 5.0)
    await client.ready(5)
    key = name.encode()

    async def by_redis_py() -> None:
        for _ in range(count // at_once):
            await redis.hget(name, "v")

    async def by_own_client() -> None:
        for _ in range(count // at_once):
            await client.call(key, b"HGET", key, b"v")

    figures = {}
    for label, read in (("redis-py", by_redis_py), ("own client", by_own_client)):
        await asyncio.gather(*(read() for _ in range(at_once)))
        started = time.process_time()
        await asyncio.gather(*(read() for _ in range(at_once)))
        figures[label] = (time.process_time() - started) * 1000 / count
    await redis.aclose()
    await client.close()
    return figures


def main(role: str) -> None:
    if role == "empty":
        logs.configure("empty")
        uvloop.run(_empty())
    elif role == "load":
        print(json.dumps(asdict(uvloop.run(_load(Load(**json.load(sys.stdin)))))))
    else:
        print(json.dumps(uvloop.run(_get(**json.load(sys.stdin)))))


if __name__ == "__main__":
    main(sys.argv[1])
