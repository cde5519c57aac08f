"""What callers are told when a question cannot be answered; never the provider's own words."""

from __future__ import annotations

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import errors
from services.llm.catalogue import TierName
from services.llm.providers import port
from services.llm.waiting import exhausted as exhausted


def no_key() -> errors.FocusError:
    """There is no key, or every one was refused."""
    return errors.Unavailable(
        "No usable provider key is configured; the operator must add one.",
        ErrorReason.ERROR_REASON_PROVIDER_KEY_INVALID,
    )


def nobody_can(tier: TierName) -> errors.FocusError:
    """No model of the tier has what the prompt needs."""
    return errors.InvalidRequest(
        f"No {tier} model of the catalogue takes such a prompt (its length, tools, images or schema); change it.",
        metadata={"field": "prompt"},
    )


def never() -> errors.FocusError:
    """No limit has room for the prompt, however long one waits."""
    return errors.InvalidRequest(
        "The prompt is larger than the quota of any model allows in a minute; shorten it.",
        metadata={"field": "messages"},
    )


def too_late() -> errors.FocusError:
    """The deadline has passed."""
    return errors.DeadlineExceeded("The answer was not ready in time; try again.")


def unavailable() -> errors.FocusError:
    """The provider, or the way to it, is out of order."""
    return errors.Unavailable(
        "The provider cannot answer right now; try again in a moment.",
        ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE,
        retry_after=2.0,
    )


def to_focus_error(err: port.ProviderError) -> errors.FocusError:
    """The last failure of a call that was not tried again."""
    if isinstance(err, port.KeyRefused):
        return errors.Unavailable(
            "The provider refuses the configured keys; the operator must replace them.",
            ErrorReason.ERROR_REASON_PROVIDER_KEY_INVALID,
        )
    if isinstance(err, port.QuotaRefused):
        return exhausted(min(err.retry_delay or 5.0, 60.0))
    if isinstance(err, port.RequestRefused):
        named = f" ({', '.join(err.fields)})" if err.fields else ""
        return errors.Rejected(f"The provider refused the request as malformed{named}; change it.")
    if isinstance(err, port.ModelUnknown):
        return errors.Unavailable(
            "The provider does not serve the configured model; the operator must change the catalogue.",
            ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE,
        )
    if isinstance(err, port.StreamBroken):
        return errors.Unavailable(
            f"The answer could not be completed: {err.what}; try again.",
            ErrorReason.ERROR_REASON_PROVIDER_STREAM_BROKEN,
            retry_after=1.0,
        )
    return unavailable()
