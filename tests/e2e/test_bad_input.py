"""What is wrong with a request is said before any work is done."""

import json
from typing import Any

import httpx2
import pytest

from tests.harness.emulator import Emulator
from tests.harness.system import Person

JSON = {"Content-Type": "application/json"}

BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "body_malformed"),
    "not JSON": (b"question=hello", 400, "body_malformed"),
    "cut": (b'{"question": "hel', 400, "body_malformed"),
    "no object": (b'["question"]', 400, "body_malformed"),
    "not UTF-8": (b'{"question": "caf\xe9"}', 400, "body_malformed"),
    "UTF-16": ('{"question": "hi"}'.encode("utf-16"), 400, "body_malformed"),
    "nested deeply": (b'{"question": ' + b"[" * 200 + b"]" * 200 + b"}", 400, "body_malformed"),
    "nested very deeply": (b'{"question": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "body_malformed"),
    "a name twice": (b'{"question": "a", "question": "b"}', 400, "body_malformed"),
    "larger than allowed": (b'{"question": "' + b"x" * (2 << 20) + b'"}', 413, "body_malformed"),
    "nothing in it": (b"{}", 400, "invalid_argument"),
    "an unknown field": (b'{"question": "hi", "colour": "red"}', 400, "invalid_argument"),
    "a number for a text": (b'{"question": 5}', 400, "invalid_argument"),
    "null": (b'{"question": null}', 400, "invalid_argument"),
    "blank": (b'{"question": "  \\n "}', 400, "invalid_argument"),
    "a NUL": (b'{"question": "a\\u0000b"}', 400, "invalid_argument"),
    "half of a surrogate pair": (b'{"question": "\\ud800"}', 400, ""),
    "an unknown mode": (b'{"question": "hi", "mode": "best"}', 400, "invalid_argument"),
    "a text for a number": (b'{"question": "hi", "temperature": "1"}', 400, "invalid_argument"),
    "too hot": (b'{"question": "hi", "temperature": 2.5}', 400, "invalid_argument"),
    "no tokens": (b'{"question": "hi", "max_output_tokens": 0}', 400, "invalid_argument"),
    "too long a question": (json.dumps({"question": "x" * 40_000}).encode(), 413, "question_too_long"),
}


def assert_problem(reply: httpx2.Response, status: int, reason: str) -> dict[str, Any]:
    """RFC 9457, with a stable reason and a sentence."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = reply.json()
    assert problem["status"] == status
    assert problem["type"] == f"/problems/{problem['reason']}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"]
    if reason:
        assert problem["reason"] == reason
    return problem


@pytest.mark.parametrize("path", ["/v1/ask", "/v1/conversations/{id}/turns"])
@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_a_problem_and_no_work(
    person: Person, request: pytest.FixtureRequest, name: str, path: str
) -> None:
    own: Emulator | None = None
    if not request.config.getoption("--base-url"):
        own = request.getfixturevalue("own")
    conversation = person.client.post("/v1/conversations", json={}).json()["conversation_id"]
    body, status, reason = BODIES[name]
    reply = person.client.post(path.replace("{id}", conversation), content=body, headers=JSON)
    assert_problem(reply, status, reason)
    assert person.client.get(f"/v1/conversations/{conversation}").json()["turn_count"] == 0
    if own is not None:
        assert own.stats()["arrivals"] == 0


def test_the_problem_names_the_field(person: Person) -> None:
    reply = person.client.post("/v1/ask", json={"question": "hi", "temperature": "warm"})
    assert assert_problem(reply, 400, "invalid_argument")["field"] == "temperature"


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read(person: Person, media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    reply = person.client.post("/v1/ask", content=b'{"question": "hi"}', headers=headers)
    assert_problem(reply, 415, "unsupported_media_type")


def test_only_json_and_events_are_given(person: Person) -> None:
    reply = person.client.post("/v1/ask", json={"question": "hi"}, headers={"Accept": "image/png"})
    assert_problem(reply, 406, "not_acceptable")


@pytest.mark.parametrize(
    "conversation",
    ["x", "local-0", "local-00000000-0000-4000-8000-000000000000", "%00", "a" * 300, "local-%F0%9F%92%A5"],
)
def test_an_unknown_conversation_is_not_found_however_it_is_written(person: Person, conversation: str) -> None:
    reply = person.client.post(f"/v1/conversations/{conversation}/turns", json={"question": "hi"})
    assert_problem(reply, 404, "conversation_not_found")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("cursor=nonsense", "cursor_invalid"),
        ("limit=0", "invalid_argument"),
        ("limit=many", "invalid_argument"),
        ("limit=201", "invalid_argument"),
        ("colour=red", "invalid_argument"),
    ],
)
def test_a_bad_page_is_told(person: Person, query: str, reason: str) -> None:
    assert_problem(person.client.get(f"/v1/conversations?{query}"), 400, reason)


def test_a_cursor_of_one_list_is_no_good_for_another(person: Person) -> None:
    made = [person.client.post("/v1/conversations", json={}).json()["conversation_id"] for _ in range(2)]
    cursor = person.client.get("/v1/conversations?limit=1").json()["next_cursor"]
    reply = person.client.get(f"/v1/conversations/{made[0]}", params={"cursor": cursor})
    assert_problem(reply, 400, "cursor_invalid")


def test_unknown_routes_and_methods_are_problems_too(visitor: httpx2.Client) -> None:
    assert_problem(visitor.get("/v1/nothing"), 404, "route_not_found")
    reply = visitor.put("/v1/ask", json={})
    assert_problem(reply, 405, "method_not_allowed")
    assert "POST" in reply.headers["allow"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/ask"),
        ("POST", "/v1/conversations"),
        ("GET", "/v1/conversations"),
        ("GET", "/v1/conversations/local-00000000-0000-4000-8000-000000000000"),
        ("POST", "/v1/conversations/local-00000000-0000-4000-8000-000000000000/turns"),
        ("POST", "/v1/api-keys"),
    ],
)
@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "credentials_missing"),
        ("Basic dXNlcjpwYXNz", ""),
        ("Bearer", ""),
        ("Bearer nonsense", "credentials_invalid"),
        ("Bearer fk_unknownunknownunknownunknownunknownunknown", "credentials_invalid"),
        ("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "credentials_invalid"),
        ("Bearer " + "a" * 9000, ""),
    ],
)
def test_without_good_credentials_nothing_is_done(
    visitor: httpx2.Client, method: str, path: str, authorization: str | None, reason: str
) -> None:
    """401 comes before the body is looked at, and tells how to authenticate (RFC 6750)."""
    headers = {"Authorization": authorization} if authorization else {}
    reply = visitor.request(method, path, content=b"{broken" if method == "POST" else None, headers={**JSON, **headers})
    assert_problem(reply, 401, reason)
    assert reply.headers["www-authenticate"].startswith("Bearer")
