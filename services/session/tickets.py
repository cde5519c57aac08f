"""Tickets: what a waiter needs to go on waiting, at whichever process it comes back to.

A ticket says itself what it is for, so that no process has to remember it. It holds no
secret and no right: the store checks the principal of the call that presents it.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import NotFound
from services.session.model import Principal, Wanted


@dataclass(frozen=True, slots=True)
class Ticket:
    """A wanted turn and when it arrived, in microseconds since 1970 by the clock of the queue."""

    wanted: Wanted
    arrived: int

    def encode(self) -> str:
        """The ticket as callers carry it."""
        wanted = self.wanted
        fields = [
            wanted.holder_id,
            wanted.turn_id,
            wanted.parent_id,
            wanted.replaces_id,
            wanted.key,
            wanted.digest.hex(),
            wanted.budget,
            self.arrived,
        ]
        return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(text: str, principal: Principal, conversation_id: str) -> Ticket:
    """Reads a ticket; raises NotFound (TICKET_UNKNOWN) for what `encode` did not write."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        holder, turn, parent, replaces, key, digest, budget, arrived = json.loads(raw)
        fields = (holder, turn, parent, replaces, key, digest)
        if not all(isinstance(field, str) for field in fields) or type(budget) is not int or type(arrived) is not int:
            raise unknown()
        wanted = Wanted(principal, conversation_id, holder, turn, parent, replaces, key, bytes.fromhex(digest), budget)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise unknown() from None
    return Ticket(wanted, arrived)


def unknown() -> NotFound:
    """The ticket is not, or no longer, in the queue."""
    return NotFound(
        "This place in the queue is not known or was given up; begin the turn again.",
        ErrorReason.ERROR_REASON_TICKET_UNKNOWN,
    )
