"""Taking a conversation's lease and giving it back with an outcome."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import turn_pb2
from services.common import logs
from services.common.errors import Cancelled, DeadlineExceeded, FocusError, NotFound, Unavailable
from services.flow.clients import Turns
from services.flow.deadline import Deadline
from services.flow.events import Queued
from services.flow.flight import Course, Stopped
from services.flow.holder import Hold

log = logs.get(__name__)

# One begin is two statements; a store that is away says so within a second.
BEGIN_SECONDS = 3.0
# One try to commit, and how long it is tried over all: the answer is paid for, and a
# database that restarts is back by then.
COMMIT_TRY_SECONDS = 2.0
COMMIT_SECONDS = 5.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5


async def take_lease(
    turns: Turns, hold: Hold, request: turn_pb2.BeginTurnRequest, course: Course, deadline: Deadline
) -> turn_pb2.BegunTurn | turn_pb2.Turn:
    """The lease with the history, after a wait where others are first; a Turn is a repeat's saved outcome.

    A begin is never interrupted: nobody would know whether it took the lease. Raises
    what the session service raised; DeadlineExceeded (CONVERSATION_BUSY) when others
    took all the time, and Cancelled when the caller left the queue.
    """
    while True:
        try:
            response = await turns.begin(request, timeout=deadline.remaining(BEGIN_SECONDS))
        except (Unavailable, DeadlineExceeded) as err:
            hold.doubt()
            raise _as_unavailable(err) from None
        kind = response.WhichOneof("result")
        if kind == "begun":
            return response.begun
        if kind == "replayed":
            return response.replayed
        course.emit(Queued("conversation", response.queued.position))
        begun = await _wait(turns, hold, request, response.queued.ticket, course, deadline)
        if begun is not None:
            return begun
        # The service that kept our place went away; the same turn id finds its place, or its lease, again.
        await asyncio.sleep(_pause(0))


async def _wait(
    turns: Turns,
    hold: Hold,
    request: turn_pb2.BeginTurnRequest,
    ticket: str,
    course: Course,
    deadline: Deadline,
) -> turn_pb2.BegunTurn | None:
    """The turn, once it is reached; None when the place must be asked for again."""
    place = turn_pb2.AwaitTurnRequest(
        principal=request.principal, conversation_id=request.conversation_id, ticket=ticket
    )
    try:
        with course.interruptible():
            async with aclosing(turns.wait(place, timeout=deadline.remaining())) as events:
                async for event in events:
                    if event.WhichOneof("event") == "begun":
                        return event.begun
                    course.emit(Queued("conversation", event.position))
    except Stopped:
        # The lease may have been given in the same moment.
        hold.doubt()
        raise Cancelled("The place in the conversation's queue was given up.") from None
    except DeadlineExceeded:
        hold.doubt()
        raise DeadlineExceeded(
            "Other turns of this conversation took all the time there was; try again later.",
            ErrorReason.ERROR_REASON_CONVERSATION_BUSY,
            retry_after=1.0,
        ) from None
    except (Unavailable, NotFound) as err:
        if isinstance(err, NotFound) and err.reason != ErrorReason.ERROR_REASON_TICKET_UNKNOWN:
            raise
        log.info("place in the queue lost; asking again", reason=err.reason_name)
    return None


async def commit(turns: Turns, hold: Hold, request: turn_pb2.CommitTurnRequest) -> turn_pb2.Turn:
    """Stores the outcome. Repeated while the acknowledgement is missing: fence and turn id make that safe.

    Raises Conflict (LEASE_LOST) when somebody else has the conversation: nothing was
    stored. Raises Unavailable (STORE_UNAVAILABLE) when it is not known whether it was.
    """
    until = Deadline.after(COMMIT_SECONDS)
    tries = 0
    while True:
        try:
            response = await turns.commit(request, timeout=until.remaining(COMMIT_TRY_SECONDS))
        except (Unavailable, DeadlineExceeded) as err:
            pause = _pause(tries)
            tries += 1
            if until.left() <= pause:
                hold.doubt()
                raise _as_unavailable(err) from None
            log.info("commit not acknowledged; repeating it", reason=err.reason_name)
            await asyncio.sleep(pause)
        except FocusError:
            hold.doubt()
            raise
        else:
            return response.turn


def _pause(tries: int) -> float:
    """Full jitter, so that those who failed together do not come back together."""
    return random.uniform(0.01, min(_FIRST_PAUSE * 2**tries, _LONGEST_PAUSE))  # noqa: S311 - not a secret


def _as_unavailable(err: FocusError) -> FocusError:
    """A call of a few milliseconds that takes seconds is a store that is away, not a slow answer."""
    if isinstance(err, Unavailable):
        return err
    return Unavailable(
        "The store of conversations does not answer right now; try again in a moment.",
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        retry_after=1.0,
    )
