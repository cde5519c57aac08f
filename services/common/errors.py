"""Errors that cross a process boundary, each with a stable reason.

    FocusError
    ├── InvalidRequest      what the caller sent is wrong
    ├── NotFound            it does not exist, or not for this caller
    ├── Unauthenticated     nobody known is asking
    ├── PermissionDenied    somebody known may not do this
    ├── Conflict            it collides with what is stored or under way
    ├── Exhausted           a quota, queue or limit is full
    ├── Rejected            the provider refused the question or withheld the answer
    ├── Unavailable         a part of the system cannot be reached; retry later
    ├── DeadlineExceeded    the time was not enough
    ├── Cancelled           the caller went away
    └── Internal            a defect

No transport numbers here: `services.common.rpc.status` makes a gRPC status of an
error and the gateway's `problems` an RFC 9457 document. The message is written for
the caller: it says what is wrong and what to do, and never holds a secret or the
text of a foreign exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from focus.errors.v1.reason_pb2 import ErrorReason

_PREFIX = "ERROR_REASON_"


class FocusError(Exception):
    """A failure with a reason from `focus.errors.v1.ErrorReason`.

    `retry_after` is in seconds and set where coming again later can help.
    `metadata` holds a few short strings for programs, such as the field's name.
    """

    default_reason: ClassVar[ErrorReason.ValueType] = ErrorReason.ERROR_REASON_INTERNAL

    def __init__(
        self,
        message: str,
        reason: ErrorReason.ValueType | None = None,
        *,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason: ErrorReason.ValueType = self.default_reason if reason is None else reason
        self.retry_after = retry_after
        self.metadata: Mapping[str, str] = metadata or {}

    @property
    def reason_name(self) -> str:
        """The reason as callers see it, without the enum's prefix: `LEASE_LOST`."""
        return reason_name(self.reason)


class InvalidRequest(FocusError):
    default_reason = ErrorReason.ERROR_REASON_INVALID_ARGUMENT


class NotFound(FocusError):
    default_reason = ErrorReason.ERROR_REASON_CONVERSATION_NOT_FOUND


class Unauthenticated(FocusError):
    default_reason = ErrorReason.ERROR_REASON_CREDENTIALS_INVALID


class PermissionDenied(FocusError):
    default_reason = ErrorReason.ERROR_REASON_PERMISSION_DENIED


class Conflict(FocusError):
    default_reason = ErrorReason.ERROR_REASON_LEASE_LOST


class Exhausted(FocusError):
    default_reason = ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED


class Rejected(FocusError):
    default_reason = ErrorReason.ERROR_REASON_PROVIDER_REJECTED


class Unavailable(FocusError):
    default_reason = ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE


class DeadlineExceeded(FocusError):
    default_reason = ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED


class Cancelled(FocusError):
    default_reason = ErrorReason.ERROR_REASON_CANCELLED


class Internal(FocusError):
    default_reason = ErrorReason.ERROR_REASON_INTERNAL


def reason_name(reason: ErrorReason.ValueType) -> str:
    """`ERROR_REASON_LEASE_LOST` -> `LEASE_LOST`."""
    return ErrorReason.Name(reason).removeprefix(_PREFIX)


def reason_from_name(name: str) -> ErrorReason.ValueType:
    """The inverse of `reason_name`; a reason this build does not know is INTERNAL."""
    try:
        return ErrorReason.Value(_PREFIX + name)
    except ValueError:
        return ErrorReason.ERROR_REASON_INTERNAL
