"""TurnService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from focus.session.v1 import turn_pb2, turn_pb2_grpc
from services.common.errors import InvalidRequest
from services.common.rpc.server import timeout_of
from services.session import messages, tickets
from services.session.asks import Asks, WantedAsk
from services.session.model import Begun, Ending, Turn, Wanted
from services.session.turns import Queued, Turns

Context = grpc.aio.ServicerContext[Any, Any]

# For callers that set no deadline of their own.
_MAX_WAIT_SECONDS = 120.0
_MAX_EXTRA_BYTES = 4096


class TurnServicer(turn_pb2_grpc.TurnServiceServicer):
    """Translates between protobuf and `Turns` and `Asks`; errors are translated around it."""

    def __init__(self, turns: Turns, asks: Asks) -> None:
        self._turns = turns
        self._asks = asks

    async def BeginTurn(self, request: turn_pb2.BeginTurnRequest, context: Context) -> turn_pb2.BeginTurnResponse:
        result = await self._turns.begin(
            Wanted(
                messages.principal(request.principal),
                request.conversation_id,
                request.holder_id,
                request.turn_id,
                request.parent_turn_id,
                request.replaces_turn_id,
                request.idempotency_key,
                request.request_digest,
                request.history_token_budget,
            )
        )
        match result:
            case Begun():
                return turn_pb2.BeginTurnResponse(begun=messages.begun_message(result))
            case Queued(ticket, position):
                queued = turn_pb2.BeginTurnResponse.Queued(ticket=ticket.encode(), position=position)
                return turn_pb2.BeginTurnResponse(queued=queued)
            case Turn():
                return turn_pb2.BeginTurnResponse(replayed=messages.turn_message(result))

    async def AwaitTurn(
        self, request: turn_pb2.AwaitTurnRequest, context: Context
    ) -> AsyncIterator[turn_pb2.AwaitTurnResponse]:
        principal = messages.principal(request.principal)
        ticket = tickets.decode(request.ticket, principal, request.conversation_id)
        async with aclosing(self._turns.wait(ticket, timeout_of(context, _MAX_WAIT_SECONDS))) as steps:
            async for step in steps:
                match step:
                    case int():
                        yield turn_pb2.AwaitTurnResponse(position=step)
                    case Begun():
                        yield turn_pb2.AwaitTurnResponse(begun=messages.begun_message(step))
                    case Turn():
                        yield turn_pb2.AwaitTurnResponse(replayed=messages.turn_message(step))

    async def CommitTurn(self, request: turn_pb2.CommitTurnRequest, context: Context) -> turn_pb2.CommitTurnResponse:
        turn = await self._turns.commit(
            Ending(
                messages.principal(request.principal),
                request.conversation_id,
                request.turn_id,
                request.fence,
                request.question,
                messages.outcome(request.outcome),
                messages.answer(request.answer),
                request.failure_reason,
                request.failure_message,
            )
        )
        return turn_pb2.CommitTurnResponse(turn=messages.turn_message(turn))

    async def AbandonTurn(self, request: turn_pb2.AbandonTurnRequest, context: Context) -> turn_pb2.AbandonTurnResponse:
        principal = messages.principal(request.principal)
        await self._turns.abandon(principal, request.conversation_id, request.turn_id)
        return turn_pb2.AbandonTurnResponse()

    async def CancelTurn(self, request: turn_pb2.CancelTurnRequest, context: Context) -> turn_pb2.CancelTurnResponse:
        principal = messages.principal(request.principal)
        turn = await self._turns.cancel(principal, request.conversation_id, request.turn_id)
        return turn_pb2.CancelTurnResponse(turn=None if turn is None else messages.turn_message(turn))

    async def RenewHolder(self, request: turn_pb2.RenewHolderRequest, context: Context) -> turn_pb2.RenewHolderResponse:
        cancelled = await self._turns.renew(request.holder_id, request.stopped_turn_ids)
        return turn_pb2.RenewHolderResponse(cancelled_turn_ids=cancelled)

    async def ReleaseHolder(
        self, request: turn_pb2.ReleaseHolderRequest, context: Context
    ) -> turn_pb2.ReleaseHolderResponse:
        await self._turns.release(request.holder_id)
        return turn_pb2.ReleaseHolderResponse()

    async def BeginAsk(self, request: turn_pb2.BeginAskRequest, context: Context) -> turn_pb2.BeginAskResponse:
        saved = await self._asks.begin(
            WantedAsk(
                messages.principal(request.principal),
                request.holder_id,
                request.ask_id,
                request.route,
                request.idempotency_key,
                request.request_digest,
            )
        )
        if saved is None:
            return turn_pb2.BeginAskResponse(begun=turn_pb2.BeginAskResponse.BegunAsk())
        return turn_pb2.BeginAskResponse(replayed=turn_pb2.AskOutcome.FromString(saved))

    async def CommitAsk(self, request: turn_pb2.CommitAskRequest, context: Context) -> turn_pb2.CommitAskResponse:
        outcome = request.outcome
        messages.outcome(outcome.outcome)
        if len(outcome.extra) > _MAX_EXTRA_BYTES:
            raise InvalidRequest(f"extra may have {_MAX_EXTRA_BYTES} bytes at most.", metadata={"field": "extra"})
        reason = outcome.failure_reason if outcome.outcome == turn_pb2.OUTCOME_FAILURE else ""
        principal = messages.principal(request.principal)
        saved = await self._asks.commit(principal, request.ask_id, outcome.SerializeToString(), reason)
        return turn_pb2.CommitAskResponse(outcome=turn_pb2.AskOutcome.FromString(saved))

    async def AbandonAsk(self, request: turn_pb2.AbandonAskRequest, context: Context) -> turn_pb2.AbandonAskResponse:
        await self._asks.abandon(messages.principal(request.principal), request.ask_id)
        return turn_pb2.AbandonAskResponse()
