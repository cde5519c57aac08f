import grpc
import pytest
from google.rpc import code_pb2

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import errors
from services.common.errors import FocusError
from services.common.rpc import status

REASONS = [reason for reason in ErrorReason.values() if reason != ErrorReason.ERROR_REASON_UNSPECIFIED]
KINDS = [kind for kind in FocusError.__subclasses__() if kind.__module__ == errors.__name__]
# Reasons whose code is not their kind's; they come back as this kind.
SPECIAL = {
    ErrorReason.ERROR_REASON_LEASE_LOST: (errors.Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    ErrorReason.ERROR_REASON_LIMIT_REACHED: (errors.Exhausted, grpc.StatusCode.FAILED_PRECONDITION),
    ErrorReason.ERROR_REASON_EMAIL_TAKEN: (errors.Conflict, grpc.StatusCode.ALREADY_EXISTS),
}


def travelled(err: FocusError) -> FocusError:
    """The error as the caller of an RPC gets it."""
    sent = status.to_status(err)
    trailing = grpc.aio.Metadata(*(sent.trailing_metadata or ()))
    return status.from_rpc_error(grpc.aio.AioRpcError(sent.code, grpc.aio.Metadata(), trailing, sent.details))


@pytest.mark.parametrize("reason", REASONS, ids=errors.reason_name)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_reason_of_every_kind_arrives_whole(kind: type[FocusError], reason: ErrorReason.ValueType) -> None:
    sent = kind("Was geschah — und was zu tun ist.\nZweite Zeile.", reason, retry_after=1.25, metadata={"field": "ä"})
    got = travelled(sent)
    assert type(got) is SPECIAL.get(reason, (kind,))[0]
    assert (got.message, got.reason, got.retry_after, got.metadata) == (
        sent.message,
        reason,
        1.25,
        {"field": "ä"},
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_has_a_code_of_its_own_and_a_default_reason(kind: type[FocusError]) -> None:
    err = kind("…")
    assert err.reason_name
    assert reason_code(err) != grpc.StatusCode.UNKNOWN
    assert travelled(err).reason == err.reason
    assert travelled(err).retry_after is None
    others = [other("…", ErrorReason.ERROR_REASON_INTERNAL) for other in KINDS if other is not kind]
    assert status.code_of(kind("…", ErrorReason.ERROR_REASON_INTERNAL)) not in [status.code_of(o) for o in others]


def reason_code(err: FocusError) -> grpc.StatusCode:
    return status.to_status(err).code


@pytest.mark.parametrize("reason", SPECIAL, ids=errors.reason_name)
def test_a_reason_can_have_another_code_than_its_kind(reason: ErrorReason.ValueType) -> None:
    kind, code = SPECIAL[reason]
    assert status.code_of(kind("…", reason)) == code


def test_a_subclass_has_the_code_of_its_kind() -> None:
    class QueueIsLong(errors.Exhausted):
        pass

    assert status.code_of(QueueIsLong("…")) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_reason_from_a_newer_peer_keeps_its_kind() -> None:
    sent = status.to_status(errors.NotFound("Gone."))
    ((name, details),) = sent.trailing_metadata or ()
    assert isinstance(details, bytes)
    newer = details.replace(b"CONVERSATION_NOT_FOUND", b"CONVERSATION_NOT_FOUNX")
    got = status.from_rpc_error(
        grpc.aio.AioRpcError(sent.code, grpc.aio.Metadata(), grpc.aio.Metadata((name, newer)), sent.details)
    )
    assert type(got) is errors.NotFound
    assert (got.message, got.reason) == ("Gone.", ErrorReason.ERROR_REASON_INTERNAL)


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable, "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, errors.Cancelled, "CANCELLED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Exhausted, "OVERLOADED"),
        (grpc.StatusCode.UNKNOWN, errors.Internal, "INTERNAL"),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Internal, "INTERNAL"),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Internal, "INTERNAL"),
    ],
)
def test_the_transports_own_failures_have_reasons_too_and_not_its_text(
    code: grpc.StatusCode, kind: type[FocusError], reason: str
) -> None:
    got = status.from_rpc_error(
        grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "10.2.3.4:50051: secret detail")
    )
    assert (type(got), got.reason_name) == (kind, reason)
    assert "10.2.3.4" not in got.message


def test_codes_are_those_of_google_rpc() -> None:
    for kind in KINDS:
        code = status.code_of(kind("…"))
        assert code_pb2.Code.Value(code.name) == code.value[0]


def test_names_of_reasons_have_no_prefix_and_read_back() -> None:
    for reason in REASONS:
        assert not errors.reason_name(reason).startswith("ERROR_REASON")
        assert errors.reason_from_name(errors.reason_name(reason)) == reason
    assert errors.reason_from_name("NO_SUCH_REASON") == ErrorReason.ERROR_REASON_INTERNAL
