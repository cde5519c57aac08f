import pytest
from pydantic import BaseModel
from starlette.requests import Request

from services.common.errors import InvalidRequest
from services.gateway.negotiation import digest, json_or_events, require


def request(accept: str | None = None, path: str = "/v1/ask", method: str = "POST") -> Request:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request({"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""})


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("application/*", "json"),
        ("text/event-stream", "sse"),
        ("Text/Event-Stream; charset=utf-8", "sse"),
        ("text/*", "sse"),
        ("application/json, text/event-stream", "json"),
        ("application/json;q=0.5, text/event-stream", "sse"),
        ("text/event-stream;q=0.5, application/json", "json"),
        ("text/event-stream, */*", "sse"),
        ("text/event-stream, */*;q=0.1", "sse"),
        ("text/html, */*;q=0.8", "json"),
        ("text/event-stream;q=0, */*", "json"),
        ("application/json;q=0, */*", "sse"),
        ("application/json;q=9", "json"),
    ],
)
def test_the_clients_preference_counts(accept: str | None, expected: str) -> None:
    assert json_or_events(request(accept)) == expected


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "*/*;q=0", "nonsense"])
def test_what_cannot_be_met_is_refused(accept: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        json_or_events(request(accept))
    assert caught.value.reason_name == "NOT_ACCEPTABLE"
    with pytest.raises(InvalidRequest):
        require(request(accept))


def test_lines_of_accept_are_one_list() -> None:
    asked = request("text/html")
    asked.scope["headers"].append((b"accept", b"text/event-stream"))
    assert json_or_events(asked) == "sse"


class Body(BaseModel):
    question: str
    mode: str = "auto"


def test_a_digest_is_of_what_was_meant_not_of_how_it_was_written() -> None:
    meant = digest(request(), Body(question="Why?"))
    assert len(meant) == 32
    assert digest(request(), Body(mode="auto", question="Why?")) == meant
    assert digest(request(), Body(question="Why? ")) != meant
    assert digest(request(path="/v1/other"), Body(question="Why?")) != meant
    assert digest(request(method="PUT"), Body(question="Why?")) != meant
