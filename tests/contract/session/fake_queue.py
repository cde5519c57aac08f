"""A queue in memory: every promise of `services.session.line.Queue` within one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from services.common.errors import Unavailable
from services.session.line import PLACE_TTL, Spot, Standing


class FakeQueue:
    """`woken` hears of wake-ups; with `gone` set, nothing answers."""

    def __init__(self, *, max_queue: int = 64, ttl: float = PLACE_TTL) -> None:
        self._max_queue = max_queue
        self._ttl = ttl
        self._places: dict[str, dict[str, tuple[int, float]]] = {}
        self.woken: Callable[[str, str], object] = lambda conversation, turn: None
        self.gone = False

    async def join(self, conversation_id: str, turn_id: str) -> Spot | None:
        places = self._living(conversation_id)
        if turn_id not in places and len(places) >= self._max_queue:
            return None
        last = max((arrived for arrived, _ in places.values()), default=0)
        arrived = places[turn_id][0] if turn_id in places else max(time.time_ns() // 1000, last + 1)
        places[turn_id] = (arrived, time.monotonic() + self._ttl)
        return Spot(arrived, self._order(places).index(turn_id) + 1)

    async def show(self, conversation_id: str, waiters: Sequence[tuple[str, int]]) -> Standing:
        places = self._living(conversation_id)
        returned = frozenset(turn for turn, _ in waiters if turn not in places)
        for turn, arrived in waiters:
            places[turn] = (arrived, time.monotonic() + self._ttl)
        return Standing(self._order(places), returned)

    async def leave(self, conversation_id: str, turn_id: str) -> int:
        places = self._living(conversation_id)
        places.pop(turn_id, None)
        return len(places)

    async def holds(self, conversation_id: str, turn_id: str) -> bool:
        return turn_id in self._living(conversation_id)

    async def wake(self, conversation_id: str, after: str) -> None:
        places = self._living(conversation_id)
        places.pop(after, None)
        if places:
            self.woken(conversation_id, self._order(places)[0])

    def wipe(self) -> None:
        """Forgets everybody, as an operator's mistake would."""
        self._places.clear()

    def _living(self, conversation_id: str) -> dict[str, tuple[int, float]]:
        if self.gone:
            raise Unavailable("the queue cannot be reached")
        places = self._places.setdefault(conversation_id, {})
        for turn in [turn for turn, (_, until) in places.items() if until < time.monotonic()]:
            del places[turn]
        return places

    @staticmethod
    def _order(places: dict[str, tuple[int, float]]) -> list[str]:
        return sorted(places, key=lambda turn: places[turn][0])
