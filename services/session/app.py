"""Wires the session service: stores, domain, servicers, the server around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import grpc

from focus.session.v1 import auth_pb2_grpc, conversation_pb2_grpc, turn_pb2_grpc, usage_pb2_grpc
from services.common import valkey
from services.common.rpc.server import Running, serving
from services.session import auth, sweeping
from services.session.asks import Asks
from services.session.conversation_servicer import ConversationServicer
from services.session.conversations import Conversations
from services.session.fallback_queue import FallbackQueue
from services.session.ledger import Ledger
from services.session.line import Line
from services.session.settings import SessionSettings
from services.session.store.asks import PostgresAsks
from services.session.store.conversations import PostgresConversations
from services.session.store.people import PostgresPeople
from services.session.store.pool import Pool
from services.session.store.postgres_queue import PostgresQueue
from services.session.store.turns import PostgresTurns, TurnRules
from services.session.store.upkeep import PostgresUpkeep
from services.session.store.usage import PostgresBook
from services.session.store.usage_events import ValkeyEvents
from services.session.store.valkey_queue import ValkeyQueue
from services.session.turn_servicer import TurnServicer
from services.session.turns import Limits, Turns
from services.session.usage_servicer import UsageServicer

SERVICES = (
    "focus.session.v1.AuthService",
    "focus.session.v1.ConversationService",
    "focus.session.v1.TurnService",
    "focus.session.v1.UsageService",
)


@asynccontextmanager
async def app(settings: SessionSettings) -> AsyncIterator[Running]:
    """The service between start and ordered stop. It starts whether or not PostgreSQL and Valkey do."""
    undelete = timedelta(days=settings.undelete_days)
    rules = TurnRules(
        holder_ttl=timedelta(seconds=settings.holder_ttl_seconds),
        max_lease=timedelta(seconds=settings.max_turn_seconds),
        key_life=timedelta(hours=settings.idempotency_hours),
        history_max_turns=settings.history_max_turns,
        max_turns=settings.max_turns,
    )
    limits = Limits(settings.max_question_chars, settings.max_answer_chars, settings.history_token_budget)
    async with AsyncExitStack() as stack:
        pool = Pool(
            settings.database_url,
            size=settings.database_pool_size,
            timeout=settings.database_timeout_seconds,
            prepared=settings.database_prepared_statements,
        )
        stack.push_async_callback(pool.close)
        client = valkey.connect(settings.valkey_url, timeout=settings.valkey_timeout_seconds)
        stack.push_async_callback(client.aclose)

        ordered = ValkeyQueue(client, max_queue=settings.max_queue)
        line = Line(FallbackQueue(ordered, PostgresQueue(pool, max_queue=settings.max_queue)))
        await stack.enter_async_context(ordered.listening(line.woken))
        turns = Turns(PostgresTurns(pool, rules), line, limits)
        stack.push_async_callback(turns.close)
        conversations = Conversations(
            PostgresConversations(pool, region=settings.region, max_conversations=settings.max_conversations),
            undelete=undelete,
        )
        await stack.enter_async_context(
            sweeping.running(
                PostgresUpkeep(pool, key_life=rules.key_life, undelete=undelete),
                sweep_seconds=settings.sweep_seconds,
                index_seconds=settings.index_seconds,
            )
        )
        ledger = Ledger(ValkeyEvents(client), PostgresBook(pool))
        await stack.enter_async_context(sweeping.repeating(ledger.drain, settings.ledger_seconds))
        auth_servicer = await stack.enter_async_context(auth.opened(settings, PostgresPeople(pool)))

        def register(server: grpc.aio.Server) -> None:
            auth_pb2_grpc.add_AuthServiceServicer_to_server(auth_servicer, server)
            conversation_pb2_grpc.add_ConversationServiceServicer_to_server(ConversationServicer(conversations), server)
            turn_pb2_grpc.add_TurnServiceServicer_to_server(
                TurnServicer(turns, Asks(PostgresAsks(pool, rules))), server
            )
            usage_pb2_grpc.add_UsageServiceServicer_to_server(UsageServicer(ledger), server)

        yield await stack.enter_async_context(serving(settings, register, SERVICES))
