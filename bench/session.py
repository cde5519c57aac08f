"""Session processes with their stores, and callers of turns, for benchmarks."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.wire import Wire
from devstack.home import Home
from devstack.postgres import Postgres
from devstack.process import wait_until_ready
from devstack.services import Making, Service
from devstack.valkey import Valkey
from focus.chat.v1 import chat_pb2
from focus.session.v1 import turn_pb2, turn_pb2_grpc
from services.common.rpc.client import open_channel
from services.session import signing_keys
from services.session.migrate import migrate

REGION = "local"
ANSWER = "The capital of Brazil is Brasília, since 1960."
QUESTION = "What is the capital of Brazil?"
# What happens by itself would only blur the counts, and one heartbeat lasts for the whole run.
_QUIET = {
    "FOCUS_SESSION_INDEX_SECONDS": "86400",
    "FOCUS_SESSION_SWEEP_SECONDS": "86400",
    "FOCUS_SESSION_HOLDER_TTL_SECONDS": "60",
    # A disk that has just taken a million rows may be slow: that is to be seen, not to end the run.
    "FOCUS_SESSION_DATABASE_TIMEOUT_SECONDS": "30",
    "FOCUS_SESSION_LOG_LEVEL": "warning",
    "FOCUS_BARE_LOG_LEVEL": "warning",
}
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class House:
    """What runs. `counted` is one more session process, which reaches PostgreSQL through `wire`."""

    postgres: Postgres
    valkey: Valkey
    sessions: list[Service]
    bare: Service
    counted: Service
    wire: Wire
    principal: chat_pb2.Principal

    async def conversations(self, number: int) -> list[str]:
        """So many new ones of the principal, made by PostgreSQL itself."""
        connection = await asyncpg.connect(self.postgres.url())
        try:
            rows = await connection.fetch(
                """
                INSERT INTO conversations (id, region, tenant_id, person_id, last_hash)
                SELECT id, $2, $3, $4, sha256(uuid_send(id))
                FROM (SELECT uuidv7() AS id FROM generate_series(1, $1)) AS new
                RETURNING id
                """,
                number,
                REGION,
                self.principal.tenant_id,
                self.principal.person_id,
                timeout=600,
            )
        finally:
            await connection.close()
        return [f"{REGION}-{row['id']}" for row in rows]

    async def fill(self, conversations: list[str], turns: int) -> None:
        """Gives each of these new conversations so many turns."""
        connection = await asyncpg.connect(self.postgres.url())
        ids = [conversation.removeprefix(f"{REGION}-") for conversation in conversations]
        zero = hashlib.sha256(b"").digest()
        try:
            await connection.execute(
                """
                INSERT INTO turns (conversation_id, seq, id, parent_seq, fence, question, answer, outcome,
                    failure_reason, failure_message, retriable, tier, model, confidence, finish_reason, escalated,
                    prompt_tokens, cached_tokens, output_tokens, thought_tokens, cost_microusd, history_tokens,
                    question_digest, answer_digest, previous_hash, hash, created_at)
                SELECT c, n, gen_random_uuid(), n - 1, n, $3, $4, 1, '', '', false, 1, 'm', 0.9, 1, false,
                    9, 0, 9, 0, 1, 30, $5, $5, $5, $5, clock_timestamp()
                FROM unnest($1::uuid[]) AS c, generate_series(1, $2) AS n
                """,
                ids,
                turns,
                QUESTION,
                ANSWER,
                zero,
                timeout=600,
            )
            await connection.execute(
                "UPDATE conversations SET next_seq = $2, fence = $2 WHERE id = ANY ($1::uuid[])", ids, turns + 1
            )
            await connection.execute("ANALYZE turns", timeout=600)
        finally:
            await connection.close()


class Caller:
    """One holder that talks to one session process."""

    def __init__(self, service: Service, principal: chat_pb2.Principal) -> None:
        self._channel = open_channel(service.address)
        self._stub = turn_pb2_grpc.TurnServiceStub(self._channel)
        self._principal = principal
        self._holder = str(uuid.uuid4())

    async def renew(self) -> None:
        """Says that it lives; on the bare server, an empty call."""
        await self._stub.RenewHolder(turn_pb2.RenewHolderRequest(holder_id=self._holder), timeout=_SECONDS)

    async def release(self) -> None:
        """On the bare server, a call with one trivial statement."""
        await self._stub.ReleaseHolder(turn_pb2.ReleaseHolderRequest(holder_id=self._holder), timeout=_SECONDS)

    async def begin(self, conversation: str, turn: str, budget: int = 0) -> turn_pb2.BeginTurnResponse:
        """The lease or a place in the queue."""
        request = turn_pb2.BeginTurnRequest(
            principal=self._principal,
            conversation_id=conversation,
            holder_id=self._holder,
            turn_id=turn,
            history_token_budget=budget,
        )
        return await self._stub.BeginTurn(request, timeout=_SECONDS)

    async def reach(self, conversation: str, ticket: str) -> turn_pb2.BegunTurn:
        """The lease, when it is one's turn."""
        request = turn_pb2.AwaitTurnRequest(principal=self._principal, conversation_id=conversation, ticket=ticket)
        async for step in self._stub.AwaitTurn(request, timeout=_SECONDS):
            if step.WhichOneof("event") == "begun":
                return step.begun
        raise AssertionError("the queue ended without a turn")

    async def commit(self, conversation: str, turn: str, fence: int) -> turn_pb2.Turn:
        """Stores it."""
        request = turn_pb2.CommitTurnRequest(
            principal=self._principal,
            conversation_id=conversation,
            holder_id=self._holder,
            turn_id=turn,
            fence=fence,
            question=QUESTION,
            outcome=turn_pb2.OUTCOME_ANSWER,
            answer=chat_pb2.Answer(text=ANSWER, finish_reason=chat_pb2.FINISH_REASON_STOP, model="m"),
        )
        return (await self._stub.CommitTurn(request, timeout=_SECONDS)).turn

    async def turn(self, conversation: str, budget: int = 0) -> None:
        """Begin and commit, uncontended."""
        turn = str(uuid.uuid4())
        response = await self.begin(conversation, turn, budget)
        assert response.WhichOneof("result") == "begun", response
        await self.commit(conversation, turn, response.begun.fence)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


@asynccontextmanager
async def calling(services: list[Service], number: int, principal: chat_pb2.Principal) -> AsyncIterator[list[Caller]]:
    """So many callers, spread over the processes, each known to live."""
    callers = [Caller(services[n % len(services)], principal) for n in range(number)]
    try:
        await asyncio.gather(*(caller.renew() for caller in callers))
        yield callers
    finally:
        await asyncio.gather(*(caller.close() for caller in callers))


@asynccontextmanager
async def running(folder: Path, *, sessions: int = 3) -> AsyncIterator[House]:
    """Stores as in `make run`, session processes, and the bare parts."""
    home = Home(folder / "house")
    home.prepare_folder()
    home.prepare()
    signing_keys.provide(home.signing_keys, home.jwks, "bench")
    async with AsyncExitStack() as stack:
        postgres = Postgres(home.folder, home.log / "postgres.log", password=home.postgres_password())
        valkey = Valkey("limits", home.folder / "valkey-limits", home.log / "valkey.log")
        stack.callback(postgres.stop)
        stack.callback(valkey.stop)
        wait_until_ready([postgres.start(), valkey.start()], timeout=_SECONDS)
        await migrate(postgres.url())
        wire = await stack.enter_async_context(Wire.open(postgres.port.number))
        database = postgres.url() + "?sslmode=disable"
        making = Making(home, _QUIET)
        services = [making.session(f"session-{n}", database, valkey.url) for n in range(1, sessions + 1)]
        through_wire = database.replace(postgres.port.address, f"127.0.0.1:{wire.port}")
        counted = making.session("session-counted", through_wire, valkey.url)
        bare = making.session("bare", database, valkey.url)
        bare.process = making.process(
            "bare", "bench.bare", FOCUS_BARE_GRPC_LISTEN=bare.address, FOCUS_BARE_DATABASE_URL=database
        )
        for one in (*services, counted, bare):
            stack.callback(one.port.close)
            stack.callback(one.process.stop)
        starting = [one.start() for one in (*services, counted, bare)]
        await asyncio.to_thread(wait_until_ready, starting, timeout=_SECONDS)
        principal = chat_pb2.Principal(tenant_id=str(uuid.uuid4()), person_id=str(uuid.uuid4()))
        yield House(postgres, valkey, services, bare, counted, wire, principal)
