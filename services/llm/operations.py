"""What operators are shown: quota, queues, circuits, processes and keys (never a key's text)."""

from __future__ import annotations

from typing import Any

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2
from services.common import errors
from services.llm.candidates import Candidates
from services.llm.catalogue import TIERS, Catalogue
from services.llm.circuits import Circuits, State
from services.llm.failover import FleetLimiter
from services.llm.keys import KeyRing
from services.llm.memory import MemoryLimiter
from services.llm.providers.port import Endpoint
from services.llm.quota import LimiterUnavailable, pool_name

_STATES = {
    State.CLOSED: llm_pb2.ShowQuotaResponse.Circuit.STATE_CLOSED,
    State.OPEN: llm_pb2.ShowQuotaResponse.Circuit.STATE_OPEN,
    State.HALF_OPEN: llm_pb2.ShowQuotaResponse.Circuit.STATE_HALF_OPEN,
}


def key_list(keys: KeyRing) -> llm_pb2.ListKeysResponse:
    """Every key by its fingerprint."""
    return llm_pb2.ListKeysResponse(
        keys=[
            llm_pb2.ListKeysResponse.Key(
                project=key.project,
                label=key.label,
                fingerprint=key.fingerprint,
                quarantined_ms=round(keys.refused_for(key) * 1000),
                service_account=key.is_service_account,
            )
            for key in keys.all
        ]
    )


class Operations:
    """Reads from the limiter in use, whichever that is."""

    def __init__(self, limiter: FleetLimiter | MemoryLimiter, candidates: Candidates, circuits: Circuits) -> None:
        self._limiter = limiter
        self._candidates = candidates
        self._circuits = circuits

    async def quota(self, catalogue: Catalogue) -> llm_pb2.ShowQuotaResponse:
        """Everything about quota, as the store sees it, or as this process does without one."""
        endpoints = self._candidates.all()
        local = self._limiter if isinstance(self._limiter, MemoryLimiter) else self._limiter.own
        shown: dict[str, Any] = {}
        if local is None and isinstance(self._limiter, FleetLimiter):
            try:
                shown = await self._limiter.store.show(endpoints)
            except LimiterUnavailable:
                raise _store_gone() from None
        elif local is not None:
            queues = {tier: [count, 0, 0] for tier, count in local.waiting.items()}
            shown = {"pools": {pool_name(one): local.use(one) for one in endpoints}, "queues": queues}
        return llm_pb2.ShowQuotaResponse(
            pools=[_pool(one, catalogue, shown["pools"].get(pool_name(one), {})) for one in endpoints],
            queues=[
                llm_pb2.ShowQuotaResponse.Queue(
                    tier=TIERS[tier],
                    interactive=counts[0],
                    batch=counts[1],
                    warming=counts[2],
                    expected=shown.get("promises", {}).get(tier, 0),
                )
                for tier, counts in shown["queues"].items()
            ],
            circuits=[
                llm_pb2.ShowQuotaResponse.Circuit(project=project, model=model, state=_STATES[state], failures=failures)
                for (project, model), (state, failures) in self._circuits.all().items()
            ],
            members=[
                llm_pb2.ShowQuotaResponse.Member(
                    member=name, share=found["share"], silent_ms=int(found["silent"]), missing=found["missing"]
                )
                for name, found in sorted(dict(shown.get("members") or {}).items())
            ],
            local=isinstance(self._limiter, FleetLimiter) and self._limiter.local,
            debit=shown.get("debit", 0.0),
        )

    async def forget(self, member: str) -> None:
        """Ends the debit for a dead process."""
        if isinstance(self._limiter, MemoryLimiter):
            raise _store_gone()
        try:
            await self._limiter.store.forget(member)
        except LimiterUnavailable:
            raise _store_gone() from None


def _pool(endpoint: Endpoint, catalogue: Catalogue, use: dict[str, Any]) -> llm_pb2.ShowQuotaResponse.Pool:
    limits = catalogue.limits(endpoint)
    return llm_pb2.ShowQuotaResponse.Pool(
        project=endpoint.project,
        model=endpoint.model,
        location=endpoint.location,
        calls=int(use.get("calls", 0)),
        calls_limit=limits.rpm or 0,
        input_tokens=int(use.get("tokens", 0)),
        input_tokens_limit=limits.input_tpm or 0,
        day_calls=int(use.get("day_calls", 0)),
        day_calls_limit=limits.rpd or 0,
        day_input_tokens=int(use.get("day_tokens", 0)),
        day_input_tokens_limit=limits.input_tpd or 0,
        spent_microusd=int(use.get("spent", 0)),
        spend_limit_microusd=limits.spend or 0,
        cool_down_ms=int(use.get("cool", 0)),
        ceiling=(use.get("ceiling") or limits.rpm or 60) if limits.adaptive else 0,
        refused=int(use.get("refused", 0)),
        overshoots=int(use.get("overshoots", 0)),
    )


def _store_gone() -> errors.FocusError:
    return errors.Unavailable(
        "The store of the quota cannot be reached; try again in a moment.",
        ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
        retry_after=2.0,
    )
