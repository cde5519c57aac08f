"""FocusError to gRPC status and back, after google.rpc's error model (AIP-193)."""

from __future__ import annotations

from typing import cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import errors
from services.common.errors import FocusError

DOMAIN = "focus.ai"

_CODE_OF_KIND: dict[type[FocusError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Rejected: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
_KIND_OF_CODE = {code: kind for kind, code in _CODE_OF_KIND.items()}
# Where the field's usual code differs from that of the error's kind.
_CODE_OF_REASON: dict[ErrorReason.ValueType, grpc.StatusCode] = {
    ErrorReason.ERROR_REASON_LEASE_LOST: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorReason.ERROR_REASON_LIMIT_REACHED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorReason.ERROR_REASON_EMAIL_TAKEN: grpc.StatusCode.ALREADY_EXISTS,
}
_KIND_OF_REASON: dict[ErrorReason.ValueType, type[FocusError]] = {
    ErrorReason.ERROR_REASON_LEASE_LOST: errors.Conflict,
    ErrorReason.ERROR_REASON_LIMIT_REACHED: errors.Exhausted,
    ErrorReason.ERROR_REASON_EMAIL_TAKEN: errors.Conflict,
}
# A status that no servicer made: the transport's own.
_TRANSPORT: dict[grpc.StatusCode, tuple[type[FocusError], ErrorReason.ValueType, str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        errors.Unavailable,
        ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
        "A part of the service cannot be reached right now; try again in a moment.",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        errors.DeadlineExceeded,
        ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
        "The answer was not ready in time; try again.",
    ),
    grpc.StatusCode.CANCELLED: (
        errors.Cancelled,
        ErrorReason.ERROR_REASON_CANCELLED,
        "The call was cancelled.",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        errors.Exhausted,
        ErrorReason.ERROR_REASON_OVERLOADED,
        "The service takes no more requests right now; try again in a moment.",
    ),
}


def code_of(err: FocusError) -> grpc.StatusCode:
    """The gRPC code of an error: that of its reason, else that of its kind."""
    code = _CODE_OF_REASON.get(err.reason)
    if code is not None:
        return code
    for kind in type(err).__mro__:
        if kind in _CODE_OF_KIND:
            return _CODE_OF_KIND[kind]
    return grpc.StatusCode.INTERNAL


def to_status(err: FocusError) -> grpc.Status:
    """A status with ErrorInfo and, where coming again helps, RetryInfo."""
    info = error_details_pb2.ErrorInfo(reason=err.reason_name, domain=DOMAIN, metadata=dict(err.metadata))
    details = [_pack(info)]
    if err.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(err.retry_after * 1e9))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    proto = status_pb2.Status(code=code_of(err).value[0], message=err.message, details=details)
    return cast("grpc.Status", rpc_status.to_status(proto))


def from_rpc_error(err: grpc.aio.AioRpcError) -> FocusError:
    """The error that a peer raised, or one for the transport's own failure."""
    proto = rpc_status.from_call(cast("grpc.Call", err))
    if proto is not None:
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        found = False
        retry_after: float | None = None
        for detail in proto.details:
            if detail.Is(info.DESCRIPTOR):
                detail.Unpack(info)
                found = info.domain == DOMAIN
            elif detail.Is(retry.DESCRIPTOR):
                detail.Unpack(retry)
                retry_after = retry.retry_delay.ToNanoseconds() / 1e9
        if found:
            reason = errors.reason_from_name(info.reason)
            kind = _KIND_OF_REASON.get(reason) or _KIND_OF_CODE.get(err.code(), errors.Internal)
            return kind(proto.message, reason, retry_after=retry_after, metadata=dict(info.metadata))
    if err.code() in _TRANSPORT:
        kind, reason, message = _TRANSPORT[err.code()]
        return kind(message, reason, retry_after=1.0 if kind is errors.Unavailable else None)
    return errors.Internal("Something went wrong inside the service; the request id finds it in the logs.")


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
