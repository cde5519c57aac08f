"""The session service with one of its protections taken out, for the tests' controls.

    python -m tests.chaos.turns.weakened unfenced     otherwise as `python -m services.session`

Nothing of this is in the product: the protection is cut out of the module in this
process before the service starts, and it is an error if it is not found there.
"""

from __future__ import annotations

import sys
from types import ModuleType

from services.session import __main__ as service
from services.session.model import Wanted
from services.session.store import turns, valkey_queue
from services.session.store.turns import PostgresTurns
from services.session.turns import Attempt

# The parameters keep their types and places.
_ANY_FENCE = "AND $4::bigint IS NOT NULL"
_ANY_TURN = "AND $5::uuid IS NOT NULL"


def _cut(module: ModuleType, constant: str, protection: str, instead: str) -> None:
    text: str = getattr(module, constant)
    assert text.count(protection) == 1, f"{constant} does not hold '{protection}' any more; cut its successor out"
    setattr(module, constant, text.replace(protection, instead))


def unfenced() -> None:
    """A commit stores what it is given, also when somebody else has the lease by now."""
    _cut(turns, "_COMMIT", "AND fence = $4 AND lease_turn = $5", f"{_ANY_FENCE} {_ANY_TURN}")


def without_number() -> None:
    """A commit looks at the lease's turn alone."""
    _cut(turns, "_COMMIT", "AND fence = $4 AND", f"{_ANY_FENCE} AND")


def without_turn() -> None:
    """A commit looks at the fence's number alone."""
    _cut(turns, "_COMMIT", "AND lease_turn = $5", _ANY_TURN)


def barging() -> None:
    """A newcomer takes a free lease though others wait."""
    begin = PostgresTurns.begin

    async def at_once(self: PostgresTurns, wanted: Wanted, *, reached: bool) -> Attempt:
        return await begin(self, wanted, reached=True)

    PostgresTurns.begin = at_once  # type: ignore[method-assign]


def shuffled() -> None:
    """Everybody arrives in the same moment, so that ids, which are random, are the order."""
    _cut(valkey_queue, "_JOIN", "digits(math.max(micros, (tonumber(last[2]) or 0) + 1))", "'1'")


_WAYS = {one.__name__: one for one in (unfenced, without_number, without_turn, barging, shuffled)}


if __name__ == "__main__":
    _WAYS[sys.argv[1]]()
    service.main()
