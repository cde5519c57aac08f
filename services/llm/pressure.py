"""How late the event loop is, and what follows for streams: under load their pieces are read less often, several
at a time, so that a process carries more of them. A reader notices nothing of a tenth of a second."""

from __future__ import annotations

import asyncio

_LOOK_EVERY = 0.05
_HARMLESS = 0.01
_LONGEST = 0.1
_SMOOTHING = 0.3


class Pressure:
    """`hold` is how many seconds a stream may let its pieces gather; 0 while the loop is on time."""

    def __init__(self) -> None:
        self.hold = 0.0
        self._lag = 0.0

    def saw(self, lag: float) -> None:
        """The loop was so many seconds late."""
        self._lag += _SMOOTHING * (lag - self._lag)
        self.hold = 0.0 if self._lag < _HARMLESS else min(_LONGEST, 4 * self._lag)

    async def run(self) -> None:
        """Looks until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LOOK_EVERY
            await asyncio.sleep(_LOOK_EVERY)
            self.saw(max(0.0, loop.time() - due))
