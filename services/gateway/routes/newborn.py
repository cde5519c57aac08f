"""Conversations that were made here a moment ago: their next turn is probably their first."""

from __future__ import annotations

from collections import OrderedDict

_KEPT = 10_000


class Newborn:
    """A guess that saves time only: a first turn's look-up starts beside BeginTurn, not after it."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, conversation_id: str) -> None:
        self._ids[conversation_id] = None
        if len(self._ids) > _KEPT:
            self._ids.popitem(last=False)

    def first_turn_of(self, conversation_id: str) -> bool:
        """True once for each conversation that was added."""
        if conversation_id not in self._ids:
            return False
        del self._ids[conversation_id]
        return True
