"""How many requests one process answers at once."""

from __future__ import annotations

from prometheus_client import Gauge

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import Exhausted

INFLIGHT = Gauge("focus_http_inflight", "Requests being answered.")


class Admission:
    """Turns requests away when as many are under way as the process can bear.

    Better a quick 503, which a balancer takes elsewhere, than everybody's time-out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0

    def enter(self) -> None:
        """Raises Exhausted (OVERLOADED). Each success must be followed by one `leave`."""
        if self._inside >= self._most:
            raise Exhausted(
                "This server is answering as many requests as it can; try again in a moment.",
                ErrorReason.ERROR_REASON_OVERLOADED,
                retry_after=1.0,
            )
        self._inside += 1
        INFLIGHT.inc()

    def leave(self) -> None:
        self._inside -= 1
        INFLIGHT.dec()
