"""The ledger of what was used: how calls get into it, and what is read from it.

The llm service's settle script appends every call to a stream in the limits' Valkey, in the
same step that settles its quota. Here the stream is taken for what is not booked yet: its
oldest events are booked in one transaction, and only then removed. Whoever dies in between
leaves them to be booked again, and a call that is booked already is left as it is; so
neither a crash nor several processes at once lose or double a call, and no position has to
be kept that a restarted, emptied or replaced Valkey could contradict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from services.common import logs
from services.common.errors import InvalidRequest

log = logs.get(__name__)

# What an event says of a call that nobody settled: its process died, and it costs what was estimated.
LOST = "lost"
MAX_DAYS = 366
_BATCH = 500
# What PostgreSQL's bigint holds.
_MOST = 2**63 - 1
# The end of the year 9999, where dates end.
_LAST_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Call:
    """One call to a provider. `outcome` is done, failed or LOST; `at` is when it ended."""

    call_id: str
    tenant_id: str
    person_id: str
    outcome: str
    tier: str
    priority: str
    project: str
    model: str
    location: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    thought_tokens: int
    cost_microusd: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Used:
    """A day's calls (UTC) to one model as one tier; `estimated_calls` of them were never settled."""

    day: date
    model: str
    tier: str
    calls: int
    estimated_calls: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    thought_tokens: int
    cost_microusd: int


Entry = tuple[str, Mapping[str, str]]


class Events(Protocol):
    """What is not booked yet. Every method raises Unavailable while it cannot be reached."""

    async def oldest(self, most: int) -> Sequence[Entry]:
        """The first events, with their ids; they stay where they are."""

    async def remove(self, ids: Sequence[str]) -> None:
        """Those that are booked; one that is gone already is no error."""

    async def set_aside(self, entry: Entry) -> None:
        """Keeps one that cannot be read where somebody may look at it, out of the way of the others."""


class Book(Protocol):
    """What is booked. Every method raises Unavailable."""

    async def add(self, calls: Sequence[Call]) -> bool:
        """Books all of them or none, each once: what was really used stays, an estimate gives way to it.

        False: another process is booking, and nothing was done.
        """

    async def used(self, tenant_id: str, begin: datetime, end: datetime) -> Sequence[Used]:
        """By day, model and tier."""


class Ledger:
    """Books calls and adds them up."""

    def __init__(self, events: Events, book: Book) -> None:
        self._events = events
        self._book = book

    async def drain(self) -> int:
        """Books the oldest events; says how many it took."""
        entries = await self._events.oldest(_BATCH)
        calls: list[Call] = []
        booked: list[str] = []
        for entry in entries:
            try:
                calls.append(call_of(entry[1]))
            except ValueError as err:
                log.error("an event of the ledger cannot be read and was set aside", entry=entry[0], detail=str(err))
                await self._events.set_aside(entry)
            else:
                booked.append(entry[0])
        if not calls:
            return len(entries)
        if not await self._book.add(each_once(calls)):
            return 0
        await self._events.remove(booked)
        return len(entries)

    async def used(self, tenant_id: str, first: str, last: str) -> Sequence[Used]:
        """From the first to the last day (YYYY-MM-DD, UTC), both included. Raises InvalidRequest."""
        begin, end = _day("from_day", first), _day("to_day", last)
        if end < begin:
            raise InvalidRequest("The last day comes before the first one.", metadata={"field": "to_day"})
        if (end - begin).days >= MAX_DAYS:
            raise InvalidRequest(f"Ask for {MAX_DAYS} days at most.", metadata={"field": "to_day"})
        return await self._book.used(tenant_id, begin, end + timedelta(days=1))


def call_of(fields: Mapping[str, str]) -> Call:
    """An event of the stream. Raises ValueError for what cannot be booked."""

    def text(name: str) -> str:
        return fields.get(name, "").replace("\x00", "\ufffd")

    def number(name: str) -> int:
        digits = fields.get(name, "")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 20 or int(digits) > _MOST:
            raise ValueError(f"{name} is not a number that can be booked")
        return int(digits)

    if not text("call_id"):
        raise ValueError("it names no call")
    return Call(
        call_id=text("call_id"),
        tenant_id=text("tenant_id"),
        person_id=text("person_id"),
        outcome=text("outcome"),
        tier=text("tier"),
        priority=text("priority"),
        project=text("project"),
        model=text("model"),
        location=text("location"),
        prompt_tokens=number("prompt_tokens"),
        cached_tokens=number("cached_tokens"),
        output_tokens=number("output_tokens"),
        thought_tokens=number("thought_tokens"),
        cost_microusd=number("cost_microusd"),
        at=datetime.fromtimestamp(min(number("at_ms"), _LAST_MS) / 1000, UTC),
    )


def each_once(calls: Sequence[Call]) -> Sequence[Call]:
    """Each call once, in the order of their ids: the first that was settled, else an estimate."""
    found: dict[str, Call] = {}
    for call in calls:
        before = found.get(call.call_id)
        if before is None or (before.outcome == LOST and call.outcome != LOST):
            found[call.call_id] = call
    # Two processes that insert in different orders could wait for each other.
    return [found[call_id] for call_id in sorted(found)]


def _day(field: str, text: str) -> datetime:
    try:
        day = date.fromisoformat(text)
        if day.isoformat() != text or day == date.max:
            raise ValueError(text)
    except ValueError:
        raise InvalidRequest(f"{field} must be a day as YYYY-MM-DD.", metadata={"field": field}) from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
