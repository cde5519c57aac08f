"""Taking a conversation's lease or an Idempotency-Key, and giving it back with an outcome."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import turn_pb2
from services.common import logs
from services.common.errors import Cancelled, DeadlineExceeded, FocusError, NotFound, Unavailable
from services.flow.clients import Turns
from services.flow.deadline import Deadline
from services.flow.events import Queued
from services.flow.flight import Course, Stopped

log = logs.get(__name__)

StoredT = TypeVar("StoredT")

# A begin is two statements; a store that is away says so within a second.
BEGIN_SECONDS = 3.0
# One try to commit, and how long it is tried over all: the answer is paid for, and a
# database that restarts is back by then.
COMMIT_TRY_SECONDS = 2.0
COMMIT_SECONDS = 5.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5


class InDoubt(Exception):
    """It is not known whether the session service takes the turn for ours: it must be abandoned.

    `failure` is what the caller is told.
    """

    def __init__(self, failure: FocusError) -> None:
        super().__init__(failure.message)
        self.failure = failure


async def take_lease(
    turns: Turns, request: turn_pb2.BeginTurnRequest, course: Course, deadline: Deadline
) -> turn_pb2.BegunTurn | turn_pb2.Turn:
    """The lease with the history, after a wait where others are first; a Turn is a repeat's saved outcome.

    A begin is never interrupted: nobody would know whether it took the lease. Raises
    what the session service raised, and InDoubt: with Unavailable, with DeadlineExceeded
    (CONVERSATION_BUSY) when others took all the time, with Cancelled when the caller left
    the queue.
    """
    while True:
        response = await begun(turns.begin(request, timeout=deadline.remaining(BEGIN_SECONDS)))
        kind = response.WhichOneof("result")
        if kind == "begun":
            return response.begun
        if kind == "replayed":
            return response.replayed
        course.emit(Queued("conversation", response.queued.position))
        reached = await _wait(turns, request, response.queued.ticket, course, deadline)
        if reached is not None:
            return reached
        # The service that kept our place went away; the same turn id finds its place, or its lease, again.
        await asyncio.sleep(_pause(0))


async def begun(call: Awaitable[StoredT]) -> StoredT:
    """The answer to a begin; a call of a few milliseconds that takes seconds is a store that is away."""
    try:
        return await call
    except (Unavailable, DeadlineExceeded) as err:
        raise InDoubt(_as_unavailable(err)) from None


async def _wait(
    turns: Turns, request: turn_pb2.BeginTurnRequest, ticket: str, course: Course, deadline: Deadline
) -> turn_pb2.BegunTurn | turn_pb2.Turn | None:
    """The turn, once it is reached; None when the place must be asked for again."""
    place = turn_pb2.AwaitTurnRequest(
        principal=request.principal, conversation_id=request.conversation_id, ticket=ticket
    )
    try:
        with course.interruptible():
            async with aclosing(turns.wait(place, timeout=deadline.remaining())) as events:
                async for event in events:
                    kind = event.WhichOneof("event")
                    if kind == "begun":
                        return event.begun
                    if kind == "replayed":
                        return event.replayed
                    course.emit(Queued("conversation", event.position))
    except Stopped:
        # The lease may have been given in the same moment.
        raise InDoubt(Cancelled("The place in the conversation's queue was given up.")) from None
    except DeadlineExceeded as err:
        busy = DeadlineExceeded(
            "Other turns of this conversation took all the time there was; try again later.",
            ErrorReason.ERROR_REASON_CONVERSATION_BUSY,
            retry_after=err.retry_after or 1.0,
        )
        raise InDoubt(busy) from None
    except (Unavailable, NotFound) as err:
        if isinstance(err, NotFound) and err.reason != ErrorReason.ERROR_REASON_TICKET_UNKNOWN:
            raise
        log.info("place in the queue lost; asking again", reason=err.reason_name)
    return None


async def commit(call: Callable[[float], Awaitable[StoredT]]) -> StoredT:
    """Stores an outcome by `call(timeout)`, repeated while the acknowledgement is missing.

    Turn id and fence make the repetition safe: what was stored is answered again.
    Raises Conflict (LEASE_LOST) when somebody else has the lease: nothing was stored.
    Raises InDoubt with Unavailable when it is not known whether it was.
    """
    until = Deadline.after(COMMIT_SECONDS)
    tries = 0
    while True:
        try:
            return await call(until.remaining(COMMIT_TRY_SECONDS))
        except (Unavailable, DeadlineExceeded) as err:
            pause = _pause(tries)
            tries += 1
            if until.left() <= pause:
                raise InDoubt(_as_unavailable(err)) from None
            log.info("commit not acknowledged; repeating it", reason=err.reason_name)
            await asyncio.sleep(pause)


def _pause(tries: int) -> float:
    """Full jitter, so that those who failed together do not come back together."""
    return random.uniform(0.01, min(_FIRST_PAUSE * 2**tries, _LONGEST_PAUSE))  # noqa: S311 - not a secret


def _as_unavailable(err: FocusError) -> FocusError:
    if isinstance(err, Unavailable):
        return err
    return Unavailable(
        "The store of conversations does not answer right now; try again in a moment.",
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        retry_after=1.0,
    )
