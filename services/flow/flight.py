"""A flow under way, apart from the response that follows it.

The flow runs in a task of its own, so that a client that leaves does not end it. The
flow says through its `Course` what can be interrupted and from where on it must be
finished; whoever follows the `Flight` says that the client left, or that somebody
asked for a stop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from services.flow.events import Delta, Escalated, Event, Restarted
from services.flow.question import CacheUse

ResultT = TypeVar("ResultT")


class Stopped(Exception):
    """What was interruptible was interrupted: the caller left or asked for a stop."""


class Course:
    """What a running flow tells, and how it is told to stop.

    `streaming` says that somebody wants to see the pieces. `durable` says that from
    `must_finish()` on the flow is carried out also without its client.
    """

    def __init__(self, *, streaming: bool, durable: bool) -> None:
        self.streaming = streaming
        self.events: deque[Event] = deque()
        self.news = asyncio.Event()
        # What makes up the answer so far, for those who follow it from elsewhere.
        self.told: list[Delta | Escalated] = []
        # Where the answer comes from, as soon as that is known.
        self.cache: CacheUse | None = None
        self._durable = durable
        self._unstoppable_by_leaving = False
        self._left = False
        self._stop_asked = False
        self._audience: Callable[[], Awaitable[bool]] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._moved: asyncio.Event | None = None
        self._interruptible: _Interruptible | None = None

    def emit(self, event: Event) -> None:
        """Tells the follower, if there still is one."""
        if isinstance(event, Delta | Escalated):
            self.told.append(event)
            self.tell()
        if not self._left:
            self.events.append(event)
            self.news.set()

    def restart(self) -> None:
        """Voids what was told of the answer; another one begins."""
        if self.told:
            self.told = []
            self.tell()
            self.emit(Restarted())

    def moved(self) -> asyncio.Event:
        """Is set when there is something new for those who watch `told`."""
        if self._moved is None:
            self._moved = asyncio.Event()
        return self._moved

    def tell(self) -> None:
        """Wakes those who watch."""
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    @property
    def text(self) -> str:
        """All deltas so far."""
        return "".join(event.text for event in self.told if isinstance(event, Delta))

    def must_finish(self) -> None:
        """From here on somebody pays for the answer: a durable flow goes on though the client leaves."""
        self._unstoppable_by_leaving = self._durable

    def interruptible(self) -> _Interruptible:
        """A block that raises Stopped at once when the flow shall stop. Not to be nested."""
        return _Interruptible(self)

    def shared(self, audience: Callable[[], Awaitable[bool]] | None) -> None:
        """While `audience()` says that others follow the answer, leaving does not stop it. None: nobody can."""
        self._audience = audience
        self._interrupt()

    def leave(self) -> None:
        """The client is gone."""
        self._left = True
        if self._audience is None or self._unstoppable_by_leaving:
            self._interrupt()
        elif self._asking is None:
            self._asking = asyncio.create_task(self._leave_unless_followed(self._audience), name="leave")

    def stop(self) -> None:
        """Somebody asked for the flow's end."""
        self._stop_asked = True
        self._interrupt()

    @property
    def shall_stop(self) -> bool:
        return self._stop_asked or (self._left and not self._unstoppable_by_leaving and self._audience is None)

    async def _leave_unless_followed(self, audience: Callable[[], Awaitable[bool]]) -> None:
        if not await audience() and self._audience is audience:
            self.shared(None)

    def _interrupt(self) -> None:
        if self._interruptible is not None and self.shall_stop:
            self._interruptible.interrupt()

    def _enter(self, block: _Interruptible) -> None:
        if self.shall_stop:
            raise Stopped
        self._interruptible = block

    def _exit(self) -> None:
        self._interruptible = None


class _Interruptible:
    """Cancels the task that is inside and turns that one cancellation into Stopped, as asyncio.timeout does."""

    __slots__ = ("_cancelling", "_course", "_interrupted", "_task")

    def __init__(self, course: Course) -> None:
        self._course = course
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._cancelling = 0

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._course._enter(self)

    def interrupt(self) -> None:
        if not self._interrupted and self._task is not None:
            self._interrupted = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._course._exit()
        if self._interrupted and self._task is not None:
            foreign = self._task.uncancel() > self._cancelling
            if not foreign and kind is asyncio.CancelledError:
                raise Stopped from None


class Flight(Generic[ResultT]):
    """One flow in its task. At most one follower reads its events."""

    def __init__(self, flow: Callable[[Course], Coroutine[Any, Any, ResultT]], course: Course) -> None:
        self.course = course
        self._task: asyncio.Task[ResultT] = asyncio.create_task(flow(course))
        self._task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[ResultT]) -> None:
        if not task.cancelled():
            task.exception()  # told to the follower; a flow without one is nobody's error
        self.course.news.set()

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def task(self) -> asyncio.Task[ResultT]:
        return self._task

    async def next_events(self, timeout: float) -> list[Event]:
        """What was told since the last call, waiting up to `timeout` seconds for it.

        An empty list: nothing yet (the time is over), or nothing any more (`done`).
        """
        course = self.course
        if not course.events and not self._task.done():
            try:
                async with asyncio.timeout(timeout):
                    await course.news.wait()
            except TimeoutError:
                return []
        course.news.clear()
        events = list(course.events)
        course.events.clear()
        return events

    async def result(self) -> ResultT:
        """The flow's outcome or failure. A cancelled follower leaves the flow running."""
        return await asyncio.shield(self._task)

    def leave(self) -> None:
        """The client is gone: the flow ends, unless it must be finished."""
        self.course.leave()

    def stop(self) -> None:
        """Ends the flow's interruptible part; it may still commit what it has."""
        self.course.stop()
