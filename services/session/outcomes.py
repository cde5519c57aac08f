"""Which failures a repeat may cure."""

from __future__ import annotations

# Of these a repeat with the same Idempotency-Key asks again; of all others it hears the same.
_RETRIABLE = frozenset(
    {
        "QUOTA_EXHAUSTED",
        "PROVIDER_UNAVAILABLE",
        "PROVIDER_KEY_INVALID",
        "PROVIDER_STREAM_BROKEN",
        "DEADLINE_EXCEEDED",
        "STORE_UNAVAILABLE",
        "SERVICE_UNAVAILABLE",
        "CANCELLED",
        "INTERNAL",
        "RATE_LIMITED",
        "OVERLOADED",
    }
)


def is_retriable(failure_reason: str) -> bool:
    """True for failures of the moment, by the name of their ErrorReason."""
    return failure_reason in _RETRIABLE
