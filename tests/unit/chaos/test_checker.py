"""The checker finds each kind of broken promise, and nothing in a right history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.turns.checker import StoredTurn, violations
from tests.chaos.turns.history import Event


def _row(seq: int, *, turn: str = "", fence: int | None = None) -> StoredTurn:
    return StoredTurn(
        conversation="c",
        turn=turn or f"t{seq}",
        seq=seq,
        fence=seq if fence is None else fence,
        question=f"q{seq}",
        hash=bytes([seq]),
        previous_hash=bytes([seq - 1]),
        idempotency_key=f"k{seq}",
    )


def _events(seq: int, at: float) -> list[Event]:
    questions = tuple(f"q{n}" for n in range(1, seq))
    return [
        Event("invoke", at, "a", "c", f"t{seq}"),
        Event("begun", at + 0.1, "a", "c", f"t{seq}", fence=seq, seq=seq, history=questions),
        Event("ack", at + 0.2, "a", "c", f"t{seq}", fence=seq, seq=seq),
    ]


ROWS = [_row(1), _row(2), _row(3)]
EVENTS = [*_events(1, 1.0), *_events(2, 2.0), *_events(3, 3.0)]


def test_a_right_history_has_no_violations() -> None:
    assert violations(EVENTS, ROWS) == []


def test_an_unknown_turn_may_be_stored_or_not() -> None:
    unknown = [Event("invoke", 4.0, "a", "c", "t4"), Event("unknown", 5.0, "a", "c", "t4")]
    assert violations([*EVENTS, *unknown], ROWS) == []
    assert violations([*EVENTS, *unknown], [*ROWS, _row(4)]) == []


@pytest.mark.parametrize(
    ("events", "rows", "word"),
    [
        (EVENTS, ROWS[:2], "is lost"),
        (EVENTS, [*ROWS, replace(ROWS[2], seq=4, previous_hash=ROWS[2].hash)], "stored 2 times"),
        (EVENTS, [ROWS[0], ROWS[1], replace(ROWS[2], idempotency_key="k2")], "made 2 turns"),
        (EVENTS[:6], [ROWS[0], ROWS[1], replace(ROWS[2], seq=4)], "numbers are"),
        (EVENTS, [ROWS[0], ROWS[1], replace(ROWS[2], fence=1)], "fence fell"),
        (EVENTS, [ROWS[0], ROWS[1], replace(ROWS[2], previous_hash=b"x")], "does not carry"),
        (
            [*_events(1, 3.0), *[replace(e, seq=2) for e in _events(2, 1.0)], *EVENTS[6:]],
            ROWS,
            "was invoked after",
        ),
        ([*EVENTS[:3], replace(EVENTS[4], history=()), *EVENTS[3:4], *EVENTS[5:]], ROWS, "was shown 0 turns"),
        # A second client, with the same Idempotency-Key, was told another number.
        ([*EVENTS, replace(EVENTS[5], at=4.0, client="b", seq=3)], ROWS, "acknowledged as 3 and stored as 2"),
        ([*EVENTS[:8], Event("lost", 3.3, "a", "c", "t3")], ROWS, "told that it is not"),
    ],
)
def test_each_broken_promise_is_found(events: list[Event], rows: list[StoredTurn], word: str) -> None:
    found = violations(events, rows)
    assert any(word in sentence for sentence in found), found


def test_a_wrong_hash_is_found() -> None:
    found = violations(EVENTS, ROWS, hash_of=lambda row: row.hash if row.seq < 3 else b"other")
    assert found == ["c: the hash of turn 3 is wrong"]
