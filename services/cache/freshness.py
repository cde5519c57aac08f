"""How long an answer lives, and when it is generated anew. All times in milliseconds.

An answer lives `base` at first and longer the more it is used and confirmed, up to
`longest`, counted from when it was stored; hits past its end do not bring it back. It
is refreshed a little before its end by whoever draws the lot (XFetch: Vattani,
Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015).
After its end it is still given for `stale_while_revalidate`, and for `stale_if_error`
where generating fails (RFC 5861).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Four hits, or one confirmation, are worth another base life.
HITS_WORTH_A_LIFE = 4


@dataclass(frozen=True, slots=True)
class Freshness:
    base: int = 3_600_000
    longest: int = 86_400_000
    stale_while_revalidate: int = 3_600_000
    stale_if_error: int = 86_400_000

    def life(self, hits: int, confirmations: int) -> int:
        """From storing to the answer's end."""
        return min(self.longest, self.base + self.base * hits // HITS_WORTH_A_LIFE + self.base * confirmations)

    def kept(self, life: int) -> int:
        """From storing to when nothing of the answer is left."""
        return life + max(self.stale_while_revalidate, self.stale_if_error)


def lot(uniform: float, beta: float = 1.0) -> float:
    """How many times its own generating time before its end this look-up refreshes an answer.

    `uniform` is a number of [0, 1). With it the chance of a refresh at time t before the
    end is e^(-t / (beta * delta)), delta being the generating time.
    """
    return -beta * math.log(1.0 - uniform)
