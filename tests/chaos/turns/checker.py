"""Holds what the clients were told against what is stored.

The assertions (facts of Jepsen-style checks for a log with leases):

1. every acknowledged turn is stored, with the acknowledged number;
2. a turn, and an idempotency key, is stored at most once;
3. the numbers of a conversation are 1, 2, 3, … without a gap;
4. the fence does not fall as the numbers grow;
5. every turn carries the hash of the one before it, and its own hash is right;
6. what was acknowledged before another was invoked has the smaller number;
7. a lease showed every turn that was acknowledged before it was asked for, in order,
   and nothing that is not stored;
8. a turn of which the store said "nothing was stored" is not stored.

Time-outs count as unknown: such a turn may be stored or not.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.chaos.turns.history import Event


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A row as the database holds it."""

    conversation: str
    turn: str
    seq: int
    fence: int
    question: str
    hash: bytes
    previous_hash: bytes
    idempotency_key: str | None = None


def violations(
    events: Iterable[Event],
    stored: Sequence[StoredTurn],
    *,
    hash_of: Callable[[StoredTurn], bytes] | None = None,
) -> list[str]:
    """Every broken promise as a sentence; empty when all hold."""
    by_turn: dict[str, dict[str, Event]] = defaultdict(dict)
    acknowledgements: list[Event] = []
    # By time: each client wrote a file of its own.
    for event in sorted(events, key=lambda event: event.at):
        if event.kind == "ack":
            acknowledgements.append(event)
        # The first invocation and acknowledgement count (a repeat asks for the same turn), and the
        # last of the rest.
        if event.kind in {"invoke", "ack"} and event.kind in by_turn[event.turn]:
            continue
        by_turn[event.turn][event.kind] = event
    chains: dict[str, list[StoredTurn]] = defaultdict(list)
    for row in stored:
        chains[row.conversation].append(row)
    for chain in chains.values():
        chain.sort(key=lambda row: row.seq)
    found: list[str] = []
    found += _stored_once(stored)
    for conversation, chain in chains.items():
        found += _chain(conversation, chain, hash_of)
    rows = {row.turn: row for row in stored}
    found += _acknowledged(acknowledgements, rows)
    found += _refused(by_turn, rows)
    found += _real_time(by_turn)
    found += _seen(by_turn, chains)
    return found


def _stored_once(stored: Sequence[StoredTurn]) -> list[str]:
    found = [f"turn {turn} is stored {n} times" for turn, n in Counter(row.turn for row in stored).items() if n > 1]
    keys = Counter(row.idempotency_key for row in stored if row.idempotency_key is not None)
    return found + [f"idempotency key {key} made {n} turns" for key, n in keys.items() if n > 1]


def _chain(conversation: str, chain: Sequence[StoredTurn], hash_of: Callable[[StoredTurn], bytes] | None) -> list[str]:
    found = []
    if [row.seq for row in chain] != list(range(1, len(chain) + 1)):
        found.append(f"{conversation}: numbers are {[row.seq for row in chain]}")
    for before, after in itertools.pairwise(chain):
        if after.fence < before.fence:
            found.append(f"{conversation}: fence fell from {before.fence} to {after.fence} at {after.seq}")
        if after.previous_hash != before.hash:
            found.append(f"{conversation}: turn {after.seq} does not carry the hash of turn {before.seq}")
    if hash_of is not None:
        found += [f"{conversation}: the hash of turn {row.seq} is wrong" for row in chain if hash_of(row) != row.hash]
    return found


def _acknowledged(acknowledgements: Sequence[Event], rows: dict[str, StoredTurn]) -> list[str]:
    found = []
    for ack in acknowledgements:
        row = rows.get(ack.turn)
        if row is None:
            found.append(f"acknowledged turn {ack.turn} is lost")
        elif row.seq != ack.seq:
            found.append(f"turn {ack.turn} was acknowledged as {ack.seq} and stored as {row.seq}")
    return found


def _refused(by_turn: dict[str, dict[str, Event]], rows: dict[str, StoredTurn]) -> list[str]:
    return [
        f"turn {turn} is stored though its client was told that it is not"
        for turn, events in by_turn.items()
        if "lost" in events and "ack" not in events and turn in rows
    ]


def _real_time(by_turn: dict[str, dict[str, Event]]) -> list[str]:
    found = []
    acknowledged: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for events in by_turn.values():
        ack, invoke = events.get("ack"), events.get("invoke")
        if ack is not None and invoke is not None:
            acknowledged[ack.conversation].append((ack.at, invoke.at, ack.seq))
    for conversation, turns in acknowledged.items():
        by_ack = sorted(turns)
        highest: list[int] = []
        for _, _, seq in by_ack:
            highest.append(max(seq, highest[-1]) if highest else seq)
        done = 0
        for _, invoked, seq in sorted(turns, key=lambda turn: turn[1]):
            while done < len(by_ack) and by_ack[done][0] < invoked:
                done += 1
            if done and highest[done - 1] > seq:
                found.append(f"{conversation}: turn {seq} was invoked after turn {highest[done - 1]} was acknowledged")
    return found


def _seen(by_turn: dict[str, dict[str, Event]], chains: dict[str, list[StoredTurn]]) -> list[str]:
    found = []
    for turn, events in by_turn.items():
        begun, ack = events.get("begun"), events.get("ack")
        if begun is None or ack is None:
            continue
        expected = tuple(row.question for row in chains[begun.conversation] if row.seq < ack.seq)
        if begun.cut:
            expected = expected[len(expected) - len(begun.history) :]
        if begun.history != expected:
            found.append(
                f"{begun.conversation}: turn {turn} ({ack.seq}) was shown {len(begun.history)} turns "
                f"that are not the {len(expected)} before it"
            )
    return found
