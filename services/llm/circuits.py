"""A circuit per project and model: after failures in a row nothing is sent there for a while, then one probe."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass


class State(enum.Enum):
    """Closed: in use. Open: passed over. Half-open: one call is under way to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    opened: float = 0.0
    seconds: float = 0.0
    probing: bool = False


class Circuits:
    """`clock` in seconds. A circuit opens after `failures` in a row, for `seconds` and twice as long each time."""

    def __init__(
        self, clock: Callable[[], float], *, failures: int = 3, seconds: float = 2.0, longest: float = 60.0
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._seconds = seconds
        self._longest = longest
        self._circuits: dict[tuple[str, str], _Circuit] = {}

    def allows(self, project: str, model: str) -> bool:
        """True where a call may go out now; looking changes nothing."""
        return self.state(project, model) is not State.OPEN and not self._probing(project, model)

    def begin(self, project: str, model: str) -> None:
        """A call goes out; in a half-open circuit it is the probe."""
        if self.state(project, model) is State.HALF_OPEN:
            self._circuits[project, model].probing = True

    def succeeded(self, project: str, model: str) -> None:
        """The provider answered, with whatever."""
        self._circuits.pop((project, model), None)

    def failed(self, project: str, model: str) -> None:
        """The provider failed (5xx, no connection, time-out, broken stream)."""
        circuit = self._circuits.setdefault((project, model), _Circuit())
        circuit.failures += 1
        if circuit.probing or circuit.failures == self._failures:
            circuit.seconds = min(max(circuit.seconds * 2, self._seconds), self._longest)
            circuit.opened = self._clock()
        circuit.probing = False

    def abandoned(self, project: str, model: str) -> None:
        """A call ended without telling anything: the caller left."""
        circuit = self._circuits.get((project, model))
        if circuit is not None:
            circuit.probing = False

    def state(self, project: str, model: str) -> State:
        """The circuit's state now."""
        circuit = self._circuits.get((project, model))
        if circuit is None or not circuit.seconds:
            return State.CLOSED
        if self._clock() < circuit.opened + circuit.seconds:
            return State.OPEN
        return State.HALF_OPEN

    def all(self) -> Mapping[tuple[str, str], tuple[State, int]]:
        """Every circuit that has seen a failure since its last success: its state and failures in a row."""
        return {key: (self.state(*key), circuit.failures) for key, circuit in self._circuits.items()}

    def _probing(self, project: str, model: str) -> bool:
        circuit = self._circuits.get((project, model))
        return circuit is not None and circuit.probing
