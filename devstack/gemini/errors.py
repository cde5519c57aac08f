"""Error bodies as Google writes them.

ApiError                    one HTTP answer of class 4xx or 5xx, with Google's JSON body
  made by invalid_argument, bad_fields, bad_key, no_key, leaked_key, bearer_refused, no_model,
  exhausted, spend_exhausted, internal, overloaded, deadline_exceeded

The shapes follow public reports of real bodies (google.rpc.ErrorInfo, BadRequest, QuotaFailure, Help, RetryInfo). What
a spend cap answers has not been seen in full by us: here it is a bare RESOURCE_EXHAUSTED without details, which Google
is known to send too.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SERVICE = "generativelanguage.googleapis.com"
RATE_LIMITS_PAGE = "https://ai.google.dev/gemini-api/docs/rate-limits"

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

Detail = dict[str, Any]


class ApiError(Exception):
    """An error answer. ``code`` is the HTTP status; ``body`` the whole JSON document as bytes."""

    def __init__(self, code: int, message: str, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.code = code
        error: dict[str, Any] = {"code": code, "message": message, "status": STATUS_NAMES[code]}
        if details:
            error["details"] = list(details)
        self.body = json.dumps({"error": error}, indent=2, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Violation:
    """One exceeded quota. ``value`` is the limit; ``retry_seconds`` when there will be room again."""

    metric: str
    quota_id: str
    value: int
    retry_seconds: float


def invalid_argument(message: str) -> ApiError:
    """400 without details."""
    return ApiError(400, message)


def bad_fields(violations: Sequence[tuple[str, str]]) -> ApiError:
    """400 for a body that does not fit the message; ``violations`` are (path, description), path "" at the root."""
    fields = [
        {"field": path, "description": description} if path else {"description": description}
        for path, description in violations
    ]
    message = "\n".join(description for _, description in violations)
    return ApiError(400, message, [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": fields}])


def bad_key() -> ApiError:
    """400 API_KEY_INVALID: the key is not known."""
    message = "API key not valid. Please pass a valid API key."
    return ApiError(
        400,
        message,
        [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": SERVICE},
            },
            {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message},
        ],
    )


def no_key() -> ApiError:
    """403: no key was sent at all."""
    return ApiError(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
        "form of API consumer identity to call this API.",
    )


def leaked_key() -> ApiError:
    """403: Google believes that the key has leaked."""
    return ApiError(403, "Your API key was reported as leaked. Please use another API key.")


def bearer_refused() -> ApiError:
    """401: a bearer token, which this API does not know."""
    return ApiError(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    )


def no_model(model: str, version: str, method: str) -> ApiError:
    """404: no such model."""
    return ApiError(
        404,
        f"models/{model} is not found for API version {version}, or is not supported for {method}. Call ListModels to "
        "see the list of available models and their supported methods.",
    )


def internal() -> ApiError:
    """500."""
    return ApiError(
        500,
        "An internal error has occurred. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting",
    )


def overloaded() -> ApiError:
    """503."""
    return ApiError(503, "The model is overloaded. Please try again later.")


def deadline_exceeded() -> ApiError:
    """504."""
    return ApiError(504, "Deadline expired before operation could complete.")


def spend_exhausted() -> ApiError:
    """429 for the rolling spend cap."""
    return ApiError(429, "Resource has been exhausted (e.g. check quota).")


def exhausted(model: str, violations: Sequence[Violation], *, retry_info: str | None, exact: bool = True) -> ApiError:
    """429 for exceeded quotas.

    ``retry_info``: None states the real delay, "missing" leaves google.rpc.RetryInfo out, and anything else (such as
    "86400s") is stated as it is. ``exact`` False cuts the stated delay to whole seconds, which comes too early.
    """
    if not violations:
        return spend_exhausted()
    seconds = max(violation.retry_seconds for violation in violations)
    lines = [f"* Quota exceeded for metric: {SERVICE}/{v.metric}, limit: {v.value}, model: {model}" for v in violations]
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        f"error, head to: {RATE_LIMITS_PAGE}. To monitor your current usage, head to: https://ai.dev/rate-limit. \n"
        + "\n".join(lines)
        + f"\nPlease retry in {spoken(seconds)}."
    )
    details: list[Detail] = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [
                {
                    "quotaMetric": f"{SERVICE}/{v.metric}",
                    "quotaId": v.quota_id,
                    "quotaDimensions": {"location": "global", "model": model},
                    "quotaValue": str(v.value),
                }
                for v in violations
            ],
        },
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Learn more about Gemini API quotas", "url": RATE_LIMITS_PAGE}],
        },
    ]
    if retry_info != "missing":
        delay = retry_info or (f"{seconds:.9f}s" if exact else f"{math.floor(seconds)}s")
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return ApiError(429, message, details)


def spoken(seconds: float) -> str:
    """The delay as it stands in Google's message: ``45.837906927s``, ``1h52m56.409571576s``."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    head = f"{int(hours)}h" if hours else ""
    if hours or minutes:
        head += f"{int(minutes)}m"
    return f"{head}{rest:.9f}s"


def by_status(code: int) -> ApiError:
    """The usual body for an HTTP status that a fault asks for (429 without details; see ``exhausted``)."""
    match code:
        case 400:
            return bad_key()
        case 403:
            return leaked_key()
        case 429:
            return spend_exhausted()
        case 500:
            return internal()
        case 503:
            return overloaded()
        case 504:
            return deadline_exceeded()
        case _:
            return ApiError(code, f"Emulated fault with status {code}.")
