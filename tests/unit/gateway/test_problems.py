import json

import pytest

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import Exhausted, FocusError, InvalidRequest, NotFound, Unauthenticated
from services.gateway.problems import TABLE, problem_of


def test_every_reason_has_a_status_of_its_class() -> None:
    assert set(TABLE) == set(ErrorReason.values())
    assert all(400 <= status <= 599 and title for status, title in TABLE.values())


def test_a_problem_says_what_why_and_when() -> None:
    problem = problem_of(Exhausted("None left.", retry_after=2.1, metadata={"field": "question"}), "r1")
    assert json.loads(problem.body) == {
        "type": "/problems/quota_exhausted",
        "title": "Model quota exhausted",
        "status": 429,
        "detail": "None left.",
        "reason": "quota_exhausted",
        "request_id": "r1",
        "retry_after": 3,
        "field": "question",
    }
    assert dict(problem.headers)[b"retry-after"] == b"3"
    assert dict(problem.headers)[b"content-length"] == str(len(problem.body)).encode()


def test_nobody_is_sent_back_at_once() -> None:
    problem = problem_of(Exhausted("None left.", retry_after=0.01), "r1")
    assert dict(problem.headers)[b"retry-after"] == b"1"


def test_whatever_the_store_says_of_a_conversation_that_is_not_there_stays_inside() -> None:
    assert problem_of(NotFound("row 7 is another tenant's"), "r1") == problem_of(NotFound("no row"), "r1")


@pytest.mark.parametrize(
    ("reason", "challenge"),
    [
        (ErrorReason.ERROR_REASON_CREDENTIALS_MISSING, b'Bearer realm="focus"'),
        (ErrorReason.ERROR_REASON_SIGN_IN_FAILED, b'Bearer realm="focus"'),
        (ErrorReason.ERROR_REASON_CREDENTIALS_INVALID, b'Bearer realm="focus", error="invalid_token"'),
        (ErrorReason.ERROR_REASON_TOKEN_EXPIRED, b'Bearer realm="focus", error="invalid_token"'),
    ],
)
def test_a_401_says_how_to_ask(reason: ErrorReason.ValueType, challenge: bytes) -> None:
    problem = problem_of(Unauthenticated("No.", reason), "r1")
    assert (problem.status, dict(problem.headers)[b"www-authenticate"]) == (401, challenge)


def test_the_kind_of_an_error_does_not_matter_only_its_reason() -> None:
    """A saved failure is raised again as a plain FocusError."""
    reason = ErrorReason.ERROR_REASON_ANSWER_BLOCKED
    again = problem_of(FocusError("No.", reason, metadata={"replayed": "true"}), "r1")
    first = problem_of(InvalidRequest("No.", reason), "r1")
    assert (again.status, again.body) == (first.status, first.body)
    assert (b"idempotency-replayed", b"true") in again.headers
