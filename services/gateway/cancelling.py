"""Ending a turn at its person's wish, whether this process runs it or another one does."""

from __future__ import annotations

import asyncio
from typing import Any

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import turn_pb2
from services.common.errors import Cancelled, NotFound
from services.flow.flight import Flight
from services.gateway.session import Session
from services.gateway.views import outcome_view

# How long a cancel waits for the turn's end. Here the model's call stops at once and the commit follows;
# elsewhere the next heartbeat (0.6 s) comes before that.
PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.2

STOPPING = "stopping"


async def here(flight: Flight[Any]) -> str:
    """Stops a flow of this process: how it ended, or STOPPING."""
    flight.stop()
    await asyncio.wait((flight.task,), timeout=PATIENCE_SECONDS)
    if not flight.done:
        return STOPPING
    failure = flight.task.exception()
    if failure is None:
        return outcome_view(flight.task.result().turn.outcome)
    # It still waited for its turn: nothing was stored.
    return "cancelled" if isinstance(failure, Cancelled) else "failure"


async def elsewhere(session: Session, request: turn_pb2.CancelTurnRequest) -> str:
    """Has the process that runs a turn stop it: how it ended, or STOPPING.

    Raises NotFound (TURN_NOT_FOUND) when nobody runs it and it was not stored, and what the
    session service raises.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_SECONDS
    told = False
    while True:
        try:
            response = await session.call(session.turns.CancelTurn, request)
        except NotFound as err:
            if told and err.reason == ErrorReason.ERROR_REASON_TURN_NOT_FOUND:
                return "cancelled"  # it still waited for its turn, and gave its place up
            raise
        if response.HasField("turn"):
            return outcome_view(response.turn.outcome)
        if loop.time() >= until:
            return STOPPING
        told = True
        await asyncio.sleep(_LOOK_SECONDS)
