"""Wires the cache service and closes it in reverse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from focus.cache.v1 import cache_pb2
from focus.cache.v1.cache_pb2_grpc import add_CacheServiceServicer_to_server
from services.cache import stats
from services.cache.admission import Admission
from services.cache.answers import Answers
from services.cache.entries import Coder
from services.cache.fallback import FallbackStore
from services.cache.flights import Flights
from services.cache.freshness import Freshness
from services.cache.leases import Leases
from services.cache.local import LocalStore
from services.cache.marks import Marks
from services.cache.operations import Operations
from services.cache.popular import PopularQuestions
from services.cache.rules import Rules
from services.cache.servicer import CacheServicer
from services.cache.settings import CacheSettings
from services.cache.storage import StoreUnavailable
from services.cache.store import ValkeyStore
from services.cache.valkey.client import Client
from services.cache.valkey.connection import Address
from services.cache.vault import Vault
from services.common.rpc.server import Running, serving
from services.common.watch import watching

SERVICE = cache_pb2.DESCRIPTOR.services_by_name["CacheService"].full_name

# A start waits so long for Valkey and then goes on without it.
_FIRST_SECONDS = 2.0


@asynccontextmanager
async def app(settings: CacheSettings) -> AsyncIterator[Running]:
    """The service while the context is open. Raises SystemExit with a sentence when a setting cannot be used."""
    try:
        vault = Vault(settings.secrets_dir)
        rules = Rules.load(settings.rules_dir)
    except ValueError as err:
        raise SystemExit(f"the cache cannot start: {err}") from None
    try:
        address = Address.parse(settings.valkey_url)
    except ValueError as err:
        raise SystemExit(f"setting FOCUS_CACHE_VALKEY_URL: it {err}") from None
    policy = _policy(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watching(settings.secrets_dir, vault.reload))
        client = Client(address, settings.valkey_timeout_seconds)
        stack.push_async_callback(client.close)
        stats.STORE_UP.set_function(lambda: float(client.usable))
        fleet = ValkeyStore(client, policy)
        store = FallbackStore(fleet, LocalStore(policy, settings.local_bytes))
        coder = Coder(lambda: vault.ring, settings.compress_above_bytes, settings.max_value_bytes)
        marks = Marks(fleet, lambda: vault.secret)
        await client.ready(_FIRST_SECONDS)
        with suppress(StoreUnavailable):
            await marks.refresh()
        await stack.enter_async_context(marks.followed())
        questions = PopularQuestions(fleet, coder, marks.tenant)
        await stack.enter_async_context(questions.flushed())
        answers = Answers(
            store,
            lambda: vault.secret,
            coder,
            marks,
            Admission(rules, settings.min_confidence),
            beta=settings.refresh_beta,
        )
        flights = Flights(store, answers, coder, marks, settings.max_followers)
        stack.push_async_callback(flights.close)
        servicer = CacheServicer(
            answers,
            Leases(store, coder),
            flights,
            Operations(answers, marks, questions, lambda: vault.secret),
            settings.max_question_bytes,
        )
        yield await stack.enter_async_context(
            serving(settings, lambda server: add_CacheServiceServicer_to_server(servicer, server), [SERVICE])
        )


def _policy(settings: CacheSettings) -> Freshness:
    return Freshness(
        base=settings.ttl_seconds * 1000,
        longest=max(settings.ttl_seconds, settings.max_ttl_seconds) * 1000,
        stale_while_revalidate=settings.stale_while_revalidate_seconds * 1000,
        stale_if_error=settings.stale_if_error_seconds * 1000,
    )
