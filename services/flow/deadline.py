"""A point in time that every step of a request shares."""

from __future__ import annotations

import time
from dataclasses import dataclass

from services.common.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """Computed once, where the request comes in; every call gets what is left of it."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds left; negative when it has passed."""
        return self.at - time.monotonic()

    def remaining(self, at_most: float | None = None) -> float:
        """Seconds left, capped by `at_most`. Raises DeadlineExceeded when there are none."""
        left = self.left()
        if left <= 0:
            raise DeadlineExceeded("The answer was not ready in time; try again.", retry_after=1.0)
        return left if at_most is None else min(left, at_most)
