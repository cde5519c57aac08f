"""How long to wait before a call is tried again. Whether it may be is the limiter's to say: the
fleet's retries stay under a fifth of its calls, so that a failing provider is not hit harder."""

from __future__ import annotations

import random
from collections.abc import Callable

MOST_ATTEMPTS = 4


def full_jitter(
    attempt: int, *, base: float = 0.1, longest: float = 2.0, draw: Callable[[], float] = random.random
) -> float:
    """Seconds before attempt `attempt` (the first retry is 1): uniform below an exponential bound.

    "Full jitter" of the AWS Architecture Blog, Exponential Backoff And Jitter (2015).
    """
    return draw() * min(longest, base * 2.0 ** (attempt - 1))
