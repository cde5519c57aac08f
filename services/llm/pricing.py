"""What a call costs, in integer micro-dollars (millionths of a US dollar).

Cached tokens are part of the input tokens and are charged once, at their own price; thoughts are
charged as output; above a threshold of input tokens the whole call costs the long-context price
(as Google bills it); batch mode costs half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from services.llm.providers.port import Usage

_PER = 1_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-dollars per million tokens."""

    input: int
    output: int
    cached_input: int


@dataclass(frozen=True, slots=True)
class Price:
    """A price from a day on (UTC). `call` is a flat price per call in micro-dollars."""

    effective: date
    rates: Rates
    call: int = 0
    long_context_above: int | None = None
    long_context: Rates | None = None

    def cost(self, usage: Usage, *, batch: bool = False) -> int:
        """The call's cost, rounded half up to a whole micro-dollar."""
        rates = self.rates
        above = self.long_context_above
        if self.long_context is not None and above is not None and usage.prompt > above:
            rates = self.long_context
        cached = min(usage.cached, usage.prompt)
        total = (
            (usage.prompt - cached) * rates.input
            + cached * rates.cached_input
            + (usage.output + usage.thoughts) * rates.output
            + self.call * _PER
        )
        divisor = _PER * 2 if batch else _PER
        return (total + divisor // 2) // divisor


def in_force(prices: Sequence[Price], today: date) -> Price:
    """The newest price that is effective on `today`, else the earliest there is."""
    chosen = prices[0]
    for price in prices:
        if price.effective <= today:
            chosen = price
    return chosen
