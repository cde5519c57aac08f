"""How calls get from the stream into the book, and what happens to those that cannot. All in memory."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.common.errors import InvalidRequest, Unavailable
from services.session.ledger import LOST, Ledger, call_of, each_once
from tests.contract.session.fake_ledger import FakeBook, FakeEvents

EVENT = {
    "call_id": "one",
    "outcome": "done",
    "at_ms": "1772366400000",
    "tenant_id": "t",
    "person_id": "p",
    "tier": "senior",
    "priority": "batch",
    "project": "project",
    "model": "m",
    "location": "global",
    "prompt_tokens": "31",
    "cached_tokens": "8",
    "output_tokens": "9",
    "thought_tokens": "2",
    "cost_microusd": "1000",
}


async def test_what_is_booked_leaves_the_stream() -> None:
    events, book = FakeEvents(), FakeBook()
    for number in range(1200):
        await events.append({**EVENT, "call_id": str(number)})
    ledger = Ledger(events, book)
    assert [await ledger.drain() for _ in range(4)] == [500, 500, 200, 0]
    assert (len(book.calls), events.entries) == (1200, {})
    (used,) = await ledger.used("t", "2026-03-01", "2026-03-01")
    assert (used.calls, used.cost_microusd, used.tier) == (1200, 1_200_000, "senior")


async def test_a_crash_after_booking_books_nothing_twice() -> None:
    events, book = FakeEvents(), FakeBook()
    await events.append(EVENT)
    events.remove = _crash  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await Ledger(events, book).drain()
    del events.remove
    assert len(events.entries) == len(book.calls) == 1
    assert await Ledger(events, book).drain() == 1
    (used,) = await Ledger(events, book).used("t", "2026-03-01", "2026-03-01")
    assert (used.calls, used.cost_microusd) == (1, 1000)


async def test_what_another_process_is_booking_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    events, book = FakeEvents(), FakeBook()
    await events.append(EVENT)

    async def busy(calls: object) -> bool:
        return False

    monkeypatch.setattr(book, "add", busy)
    assert await Ledger(events, book).drain() == 0
    assert len(events.entries) == 1


@pytest.mark.parametrize(
    "change",
    [{"call_id": ""}, {"cost_microusd": "-1"}, {"prompt_tokens": "1e5"}, {"at_ms": ""}, {"cost_microusd": "9" * 19}],
)
async def test_an_event_that_cannot_be_read_does_not_stop_the_others(change: dict[str, str]) -> None:
    events, book = FakeEvents(), FakeBook()
    await events.append({**EVENT, **change})
    await events.append(EVENT)
    assert await Ledger(events, book).drain() == 2
    assert [fields for _, fields in events.aside] == [{**EVENT, **change}]
    assert (list(book.calls), events.entries) == (["one"], {})


def test_of_one_call_twice_in_a_batch_the_real_figures_count() -> None:
    lost, done = call_of({**EVENT, "outcome": LOST}), call_of({**EVENT, "cost_microusd": "5"})
    other = call_of({**EVENT, "call_id": "a", "at_ms": "9" * 18})
    assert each_once([lost, done, lost, other]) == each_once([done, lost, other]) == [other, done]
    assert done.at == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "last", "field"),
    [
        ("2026-03-02", "2026-03-01", "to_day"),
        ("2025-03-01", "2026-03-02", "to_day"),
        ("", "2026-03-01", "from_day"),
        ("2026-02-30", "2026-03-01", "from_day"),
        ("2026-W10-1", "2026-03-01", "from_day"),
        ("9999-12-31", "9999-12-31", "from_day"),
    ],
)
async def test_days_that_make_no_sense_are_refused(first: str, last: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await Ledger(FakeEvents(), FakeBook()).used("t", first, last)
    assert refused.value.metadata == {"field": field}


async def _crash(ids: object) -> None:
    raise Unavailable("gone")
