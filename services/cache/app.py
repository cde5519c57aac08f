"""Wires the cache service and closes it in reverse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from focus.cache.v1 import cache_pb2
from focus.cache.v1.cache_pb2_grpc import add_CacheServiceServicer_to_server
from services.cache.answers import Answers, Rules
from services.cache.entries import Coder, KeyRing
from services.cache.keys import KeyMaker, read_secret
from services.cache.servicer import CacheServicer
from services.cache.settings import CacheSettings
from services.cache.store import ValkeyStore
from services.common import valkey
from services.common.rpc.server import Running, serving
from services.common.watch import watching

SERVICE = cache_pb2.DESCRIPTOR.services_by_name["CacheService"].full_name


@asynccontextmanager
async def app(settings: CacheSettings) -> AsyncIterator[Running]:
    """The service while the context is open. Raises SystemExit with a sentence when the secret cannot be read."""
    try:
        secret = read_secret(settings.secrets_dir)
    except ValueError as err:
        raise SystemExit(f"FOCUS_CACHE_SECRETS_DIR: {err}") from None
    keys = KeyMaker(secret)
    coder = Coder(KeyRing.derived(secret), settings.compress_above_bytes, settings.max_value_bytes)

    def reload() -> None:
        fresh = read_secret(settings.secrets_dir)
        keys.replace(fresh)
        coder.ring = KeyRing.derived(fresh)

    async with AsyncExitStack() as stack:
        client = valkey.connect(settings.valkey_url, timeout=settings.valkey_timeout_seconds)
        stack.push_async_callback(client.aclose)
        await stack.enter_async_context(watching(settings.secrets_dir, reload))
        rules = Rules(settings.min_confidence, settings.ttl_seconds, settings.max_question_bytes)
        servicer = CacheServicer(Answers(ValkeyStore(client), keys, coder, rules))
        yield await stack.enter_async_context(
            serving(settings, lambda server: add_CacheServiceServicer_to_server(servicer, server), [SERVICE])
        )
