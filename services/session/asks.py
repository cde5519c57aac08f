"""Stateless asks that carry an Idempotency-Key: one upstream call, however often they are repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import errors
from services.common.errors import InvalidRequest
from services.session import identifiers
from services.session.model import Principal
from services.session.outcomes import is_retriable
from services.session.turns import key_in_progress, key_reused


@dataclass(frozen=True, slots=True)
class WantedAsk:
    """An ask that somebody wants to begin under a key."""

    principal: Principal
    holder_id: str
    ask_id: str
    route: str
    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class AskAttempt:
    """What a begin came to: begun, replay (with what was saved), reused or in_progress."""

    status: str
    saved: bytes = b""
    holder_alive: bool = True


class AskStore(Protocol):
    """The truth about keys. Every call raises Unavailable while it cannot be reached."""

    async def begin(self, wanted: WantedAsk) -> AskAttempt: ...

    async def commit(self, principal: Principal, ask_id: str, saved: bytes) -> bytes | None:
        """Saves an outcome, or gives the one saved before; None: the ask has no key any more."""

    async def abandon(self, principal: Principal, ask_id: str) -> bool:
        """Frees the key of an ask without an outcome; says whether it had one."""

    async def renew(self, holder_id: str) -> None: ...


class Asks:
    """Outcomes are bytes here: what they hold concerns the caller alone."""

    def __init__(self, store: AskStore) -> None:
        self._store = store

    async def begin(self, wanted: WantedAsk) -> bytes | None:
        """None: the caller is to answer; otherwise the outcome saved before.

        Raises InvalidRequest (IDEMPOTENCY_KEY_REUSED), Conflict (IDEMPOTENCY_IN_PROGRESS).
        """
        identifiers.require_uuid("holder_id", wanted.holder_id)
        identifiers.require_uuid("ask_id", wanted.ask_id)
        for name, value in (("idempotency_key", wanted.key), ("route", wanted.route)):
            if not 1 <= len(value) <= 255:
                raise InvalidRequest(f"{name} must have 1 to 255 characters.", metadata={"field": name})
        if wanted.route == "turns":
            raise InvalidRequest("The route 'turns' is for turns.", metadata={"field": "route"})
        if len(wanted.digest) != 32:
            raise InvalidRequest("request_digest must be the SHA-256 of the request.")
        attempt = await self._store.begin(wanted)
        match attempt.status:
            case "begun":
                if not attempt.holder_alive:
                    await self._store.renew(wanted.holder_id)
                return None
            case "replay":
                return attempt.saved
            case "reused":
                raise key_reused()
            case _:
                raise key_in_progress()

    async def commit(self, principal: Principal, ask_id: str, outcome: bytes, failure_reason: str) -> bytes:
        """Saves the outcome, or frees the key after a failure that a repeat may cure.

        Raises Conflict (LEASE_LOST): another ask has the key.
        """
        identifiers.require_uuid("ask_id", ask_id)
        if failure_reason and is_retriable(failure_reason):
            await self._store.abandon(principal, ask_id)
            return outcome
        saved = await self._store.commit(principal, ask_id, outcome)
        if saved is None:
            raise errors.Conflict(
                "Another request with this Idempotency-Key is being answered; this outcome was not kept.",
                ErrorReason.ERROR_REASON_LEASE_LOST,
            )
        return saved

    async def abandon(self, principal: Principal, ask_id: str) -> None:
        """Frees the key of an ask without an outcome."""
        await self._store.abandon(principal, identifiers.require_uuid("ask_id", ask_id))
