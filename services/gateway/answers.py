"""Running flows for the routes: a deadline, a task, and the response that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from services.flow.clients import Clients
from services.flow.deadline import Deadline
from services.flow.flight import Course, Flight
from services.flow.holder import Holder
from services.gateway.negotiation import json_or_events
from services.gateway.sse import EventStream, Headers, Rendered, as_json
from services.gateway.views import Json

ResultT = TypeVar("ResultT")

# Tenant, person, conversation, turn: only who started a turn can stop it.
TurnKey = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: the deadline of a question, and the silence after which a stream says that it lives."""

    request: float
    heartbeat: float


class Flights:
    """Every flow under way in this process."""

    def __init__(self, clients: Clients, holder: Holder, timing: Timing) -> None:
        self._clients = clients
        self._holder = holder
        self._timing = timing
        self._running: set[Flight[Any]] = set()
        self._turns: dict[TurnKey, Flight[Any]] = {}

    async def respond(
        self,
        request: Request,
        run: Callable[[Clients, Holder, Course, Deadline], Coroutine[Any, Any, ResultT]],
        render: Callable[[ResultT], Rendered],
        *,
        durable: bool,
        headers: Headers = (),
        key: TurnKey | None = None,
    ) -> Json | EventStream[ResultT]:
        """Starts the flow and answers with it as JSON or events, as Accept wants.

        `headers` go with every answer.
        """
        streaming = json_or_events(request) == "sse"
        deadline = Deadline.after(self._timing.request)
        course = Course(streaming=streaming, durable=durable)
        flight = Flight(lambda course: run(self._clients, self._holder, course, deadline), course)
        self._keep(flight, key)
        if streaming:
            return EventStream(flight, render, headers, heartbeat=self._timing.heartbeat)
        return await as_json(flight, render, request.receive, headers)

    def turn(self, key: TurnKey) -> Flight[Any] | None:
        """The turn, if it is under way here."""
        return self._turns.get(key)

    def stop(self, turn_id: str) -> None:
        """Stops a turn that was cancelled elsewhere, by whoever may; one that is not under way here is no error."""
        for key, flight in self._turns.items():
            if key[3] == turn_id:
                flight.stop()

    async def landed(self, grace: float) -> None:
        """Waits for what is under way, at most `grace` seconds; what is not done then is cancelled."""
        tasks = [flight.task for flight in self._running]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _keep(self, flight: Flight[Any], key: TurnKey | None) -> None:
        self._running.add(flight)
        if key is not None:
            self._turns[key] = flight

        def forget(_task: asyncio.Task[Any]) -> None:
            self._running.discard(flight)
            if key is not None:
                self._turns.pop(key, None)

        flight.task.add_done_callback(forget)
