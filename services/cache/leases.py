"""Keeping, publishing and giving up leases."""

from __future__ import annotations

from collections.abc import Sequence

from focus.cache.v1.cache_pb2 import FollowResponse, LeaseState, ReleaseRequest, RenewRequest, RenewResponse
from services.cache.entries import Coder
from services.cache.storage import REFRESH_PAUSE_MS, AnswerStore, Holding, Renewal
from services.cache.tokens import FillToken
from services.common.errors import InvalidRequest

MAX_RENEWALS = 1000
MAX_EVENT_BYTES = 1 << 16
# Lua's stack, on which they lie for a moment, takes 8,000.
MAX_EVENTS_AT_ONCE = 2000

_STATES = {
    Holding.LOST: LeaseState.LEASE_STATE_LOST,
    Holding.HELD: LeaseState.LEASE_STATE_HELD,
    Holding.FOLLOWED: LeaseState.LEASE_STATE_FOLLOWED,
}


class Leases:
    """The leases of all fillers, in the store."""

    def __init__(self, store: AnswerStore, coder: Coder) -> None:
        self._store = store
        self._coder = coder

    async def renew(self, renewals: Sequence[RenewRequest.Renewal]) -> list[RenewResponse.Renewed]:
        """Prolongs each lease and publishes its events. Raises InvalidRequest."""
        if len(renewals) > MAX_RENEWALS:
            raise InvalidRequest(f"renewals holds more than {MAX_RENEWALS}; send several calls.")
        renewed = await self._store.renew([self._renewal(one) for one in renewals])
        return [RenewResponse.Renewed(state=_STATES[one.holding], have=one.have) for one in renewed]

    async def release(self, fills: Sequence[ReleaseRequest.Ended]) -> None:
        """Ends fills without answer. Raises InvalidRequest."""
        for one, fill in [(one, FillToken.decode(one.token)) for one in fills]:
            last, pause = b"", 0
            if one.HasField("failure"):
                failed = FollowResponse(failed=one.failure)
                last, pause = self._coder.seal(failed.SerializeToString(), fill.key + fill.holder), REFRESH_PAUSE_MS
            await self._store.release(fill.key, fill.holder, last, pause)

    def _renewal(self, one: RenewRequest.Renewal) -> Renewal:
        fill = FillToken.decode(one.token)
        # The answer says how far it got; the rest comes with the next renewal.
        taken = one.events[:MAX_EVENTS_AT_ONCE]
        events = [FollowResponse(piece=event).SerializeToString() for event in taken]
        if any(len(event) > MAX_EVENT_BYTES for event in events):
            raise InvalidRequest(f"An event is over {MAX_EVENT_BYTES} bytes; publish it in pieces.")
        bound = fill.key + fill.holder
        return Renewal(fill.key, fill.holder, one.first, [self._coder.seal(event, bound) for event in events])
