"""Whatever is wrong with a request is a 4xx problem, before any service was asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.gateway.conftest import Reached, Start

JSON = {"Content-Type": "application/json"}
UNKNOWN = "local-3f2b1c84-9d5e-4a6f-8b7c-0d1e2f3a4b5c"


def ask(**changes: Any) -> dict[str, Any]:
    return {"question": "Why?", **changes}


def nested(levels: int) -> bytes:
    return b'{"question": ' + b"[" * levels + b"]" * levels + b"}"


BODIES: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 400, "body_malformed"),
    ("no JSON", b"question=Why", 400, "body_malformed"),
    ("cut JSON", b'{"question": "Wh', 400, "body_malformed"),
    ("trailing", b'{"question": "Why?"} {}', 400, "body_malformed"),
    ("Latin-1", '{"question": "Olá"}'.encode("latin-1"), 400, "body_malformed"),
    ("UTF-16", '{"question": "Why?"}'.encode("utf-16"), 400, "body_malformed"),
    ("byte order mark", b'\xef\xbb\xbf{"question": "Why?"}', 400, "body_malformed"),
    ("overlong UTF-8", b'{"question": "\xc0\xae"}', 400, "body_malformed"),
    ("a list", b'["Why?"]', 400, "body_malformed"),
    ("a text", b'"Why?"', 400, "body_malformed"),
    ("null", b"null", 400, "body_malformed"),
    ("NaN", b'{"question": "Why?", "temperature": NaN}', 400, "body_malformed"),
    ("Infinity", b'{"question": "Why?", "temperature": Infinity}', 400, "body_malformed"),
    ("half a surrogate pair", rb'{"question": "\ud800"}', 400, "body_malformed"),
    ("deep", nested(100), 400, "body_malformed"),
    ("very deep", nested(5_000), 400, "body_malformed"),
    ("a name twice", b'{"question": "Why?", "question": "How?"}', 400, "body_malformed"),
    ("a name twice by escape", rb'{"question": "Why?", "questio\u006e": "How?"}', 400, "body_malformed"),
    ("too large", b'{"question": "' + b"a" * 20_000 + b'"}', 413, "body_malformed"),
    ("too long", json.dumps(ask(question="é" * 1001)).encode(), 413, "question_too_long"),
    ("no question", b"{}", 400, "invalid_argument"),
    ("empty", json.dumps(ask(question="")).encode(), 400, "invalid_argument"),
    ("white space", json.dumps(ask(question=" \n\t\u00a0\u2003")).encode(), 400, "invalid_argument"),
    ("NUL", json.dumps(ask(question="a\x00b")).encode(), 400, "invalid_argument"),
    ("escape", json.dumps(ask(question="a\x1b[2Jb")).encode(), 400, "invalid_argument"),
    ("a number", json.dumps(ask(question=7)).encode(), 400, "invalid_argument"),
    ("an object", json.dumps(ask(question={"text": "Why?"})).encode(), 400, "invalid_argument"),
    ("unknown field", json.dumps(ask(stream=True)).encode(), 400, "invalid_argument"),
    ("unknown mode", json.dumps(ask(mode="genius")).encode(), 400, "invalid_argument"),
    ("temperature", json.dumps(ask(temperature=2.1)).encode(), 400, "invalid_argument"),
    ("temperature as text", json.dumps(ask(temperature="1")).encode(), 400, "invalid_argument"),
    ("tokens", json.dumps(ask(max_output_tokens=0)).encode(), 400, "invalid_argument"),
    ("tokens as truth", json.dumps(ask(max_output_tokens=True)).encode(), 400, "invalid_argument"),
    ("tokens beyond any integer", b'{"question": "Why?", "max_output_tokens": 1' + b"0" * 400 + b"}", 400, ""),
    ("long system", json.dumps(ask(system="s" * 501)).encode(), 400, "invalid_argument"),
]


@pytest.fixture
async def strict(start: Start) -> Any:
    async with start(max_body_bytes=16_384, max_question_chars=1000, max_system_chars=500) as running:
        yield running


def check_problem(status: int, body: Any, headers: dict[str, str], expected: int, reason: str) -> None:
    assert (status, body["status"]) == (expected, expected), body
    assert headers["content-type"] == "application/problem+json"
    if reason:
        assert body["reason"] == reason, body
    assert body["type"] == f"/problems/{body['reason']}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/ask", f"/v1/conversations/{UNKNOWN}/turns"])
async def test_bodies(strict: Reached, path: str) -> None:
    for name, sent, expected, reason in BODIES:
        status, body, headers = await strict.call("POST", path, data=sent, headers=JSON)
        check_problem(status, body, headers, expected, reason)
        assert "Why" not in body["detail"], name
    assert strict.world.trace.calls == []


async def test_a_field_is_named(strict: Reached) -> None:
    _, body, _ = await strict.call("POST", "/v1/ask", json=ask(mood="good"))
    assert (body["field"], body["detail"]) == ("mood", "mood: is not known here")


async def test_limits_are_just_there(strict: Reached) -> None:
    """What just keeps the limits is taken."""
    body = ask(question="é" * 1000, system="s" * 500, temperature=2, max_output_tokens=1, mode="senior")
    status, _, _ = await strict.call("POST", "/v1/ask", json=body)
    assert status == 200
    status, _, _ = await strict.call("POST", "/v1/ask", json=ask(question='a: "b", \t c:\r\n d\u0085'))
    assert status == 200


@pytest.mark.parametrize(
    ("headers", "expected", "reason"),
    [
        ({"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        ({"Content-Type": "application/json; charset=utf-16"}, 415, "unsupported_media_type"),
        ({**JSON, "Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        ({**JSON, "Accept": "text/html"}, 406, "not_acceptable"),
        ({**JSON, "Accept": "application/json;q=0"}, 406, "not_acceptable"),
        ({**JSON, "Idempotency-Key": "k" * 256}, 400, "invalid_argument"),
        ({**JSON, "Idempotency-Key": ""}, 400, "invalid_argument"),
        ({**JSON, "Idempotency-Key": "clé"}, 400, "invalid_argument"),
        ({**JSON, "Authorization": ""}, 401, "credentials_missing"),
        ({**JSON, "Authorization": "Basic YTpi"}, 401, "credentials_missing"),
        ({**JSON, "Authorization": "Bearer nonsense"}, 401, "credentials_invalid"),
    ],
)
async def test_heads(strict: Reached, headers: dict[str, str], expected: int, reason: str) -> None:
    for path in ("/v1/ask", f"/v1/conversations/{UNKNOWN}/turns"):
        status, body, answered = await strict.call("POST", path, data=b'{"question": "Why?"}', headers=headers)
        check_problem(status, body, answered, expected, reason)
        assert ("www-authenticate" in answered) == (expected == 401)
    assert strict.world.trace.calls == []


@pytest.mark.parametrize(
    ("method", "path", "expected", "reason"),
    [
        ("GET", "/v1/nothing", 404, "route_not_found"),
        ("GET", "/v1/ask/", 404, "route_not_found"),
        ("GET", "/nothing.html", 404, "route_not_found"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "route_not_found"),
        ("GET", "/v1/conversations/nonsense", 404, "conversation_not_found"),
        ("GET", f"/v1/conversations/{UNKNOWN}", 404, "conversation_not_found"),
        ("GET", f"/v1/conversations/{UNKNOWN.upper()}", 404, "conversation_not_found"),
        ("GET", f"/v1/conversations/{UNKNOWN}%00", 404, "conversation_not_found"),
        ("GET", "/v1/conversations?cursor=nonsense", 400, "cursor_invalid"),
        ("GET", "/v1/conversations?cursor=%00", 400, "invalid_argument"),
        ("GET", "/v1/conversations?limit=0", 400, "invalid_argument"),
        ("GET", "/v1/conversations?limit=201", 400, "invalid_argument"),
        ("GET", "/v1/conversations?limit=ten", 400, "invalid_argument"),
        ("GET", "/v1/conversations?limit=1&limit=2", 400, "invalid_argument"),
        ("GET", "/v1/conversations?order=asc", 400, "invalid_argument"),
        ("GET", "/v1/conversations?cursor=%ff", 400, "invalid_argument"),
        ("GET", "/v1/conversations/search", 400, "invalid_argument"),
        ("GET", "/v1/conversations/search?q=%20", 400, "invalid_argument"),
        ("GET", "/v1/conversations/search?q=a%00", 400, "invalid_argument"),
        ("GET", f"/v1/conversations/{UNKNOWN}/export?format=pdf", 400, "invalid_argument"),
        ("GET", "/v1/shared/guess", 404, "share_not_found"),
        ("DELETE", "/v1/shares/guess", 404, "share_not_found"),
        ("POST", f"/v1/conversations/{UNKNOWN}/turns/nonsense/cancel", 404, "turn_not_found"),
        (
            "POST",
            f"/v1/conversations/{UNKNOWN}/turns/3f2b1c84-9d5e-4a6f-8b7c-0d1e2f3a4b5c/cancel",
            404,
            "turn_not_found",
        ),
    ],
)
async def test_addresses(reached: Reached, method: str, path: str, expected: int, reason: str) -> None:
    from yarl import URL

    status, body, headers = (
        await reached.call(method, str(path), params=None)
        if "%" not in path
        else (
            await reached.call(method, URL(f"http://127.0.0.1:{reached.port}{path}", encoded=True))  # type: ignore[arg-type]
        )
    )
    check_problem(status, body, headers, expected, reason)


async def test_a_wrong_method_is_told_all_right_ones(reached: Reached) -> None:
    status, body, headers = await reached.call("PUT", "/v1/conversations")
    check_problem(status, body, headers, 405, "method_not_allowed")
    assert headers["allow"] == "GET, HEAD, POST"


async def test_anothers_conversation_is_exactly_like_none(reached: Reached) -> None:
    """The same bytes but for the request id, whatever is tried."""
    _, made, _ = await reached.call("POST", "/v1/conversations")
    tries: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "", {}),
        ("PATCH", "", {"json": {"title": "Mine"}}),
        ("DELETE", "", {}),
        ("POST", "/restore", {}),
        ("GET", "/export", {}),
        ("POST", "/shares", {}),
        ("GET", "/shares", {}),
    ]
    for method, suffix, options in tries:
        answers = []
        for conversation_id in (made["conversation_id"], UNKNOWN, "nonsense"):
            status, body, headers = await reached.call(
                method,
                f"/v1/conversations/{conversation_id}{suffix}",
                headers={**reached.bob, "X-Request-Id": "same"},
                **options,
            )
            headers.pop("date")
            answers.append((status, body, headers))
        assert answers[0] == answers[1] == answers[2], (method, suffix)
        assert answers[0][0] == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/auth/signup", {"email": "ada@example.com"}),
        ("/v1/auth/signup", {"email": "ada@example.com", "password": "p", "admin": True}),
        ("/v1/auth/token", {"email": "ada\n@example.com", "password": "p"}),
        ("/v1/auth/token", {"email": ["ada"], "password": "p"}),
        ("/v1/auth/refresh", {"refresh_token": ""}),
        ("/v1/auth/logout", {}),
    ],
)
async def test_people(reached: Reached, path: str, body: dict[str, Any]) -> None:
    status, told, headers = await reached.call("POST", path, json=body)
    check_problem(status, told, headers, 400, "invalid_argument")
    assert reached.world.trace.calls == []
