"""The edge of the process: raw connections, ids, limits, probes, the page, the API's description."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.gateway import models
from tests.integration.gateway.conftest import Reached, Start

ASK = b'{"question": "Why?"}'


async def exchange(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Everything that is answered to these bytes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def flood(port: int, first: bytes) -> None:
    """Sends 64 MB. Raises ConnectionError when the server ends that."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        for _ in range(1_000):
            writer.write(b"a" * 65_536)
            await writer.drain()
    finally:
        writer.close()


def head(*lines: str) -> bytes:
    return "\r\n".join(("POST /v1/ask HTTP/1.1", *lines, "Connection: close", "", "")).encode()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head("Content-Length: 0"), b"400"),
        (head("Host: a", "Host: b", "Content-Length: 0"), b"400"),
        (head("Host: a", "Host: a", "Content-Length: 0"), b"400"),
        (head("Host: a/b", "Content-Length: 0"), b"400"),
        (head("Host: ", "Content-Length: 0"), b"400"),
        (head("Host: a", "Transfer-Encoding: identity, chunked") + b"0\r\n\r\n", b"400"),
        (head("Host: a", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", b"400"),
        (head("Host: a", "Transfer-Encoding: chunked", "Content-Length: 3") + b"0\r\n\r\n", b"400"),
        (b"POST /v1/ask HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (head("Host: a", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 3") + b"abc", b"400"),
        (head("Host: a", "Content-Length: 0", "X-A: " + "a" * 33_000), b"431"),
        (head("Host: a", "Content-Length: 0", *["X-A: " + "a" * 1_000] * 33), b"431"),
        (b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"431"),
        (head("Host: a", "Content-Length: 3", "Content-Length: 4") + b"abc", b"400"),
        (head("Host: a", "Content-Length: -1"), b"400"),
        (head("Host: a", "Content Length: 1"), b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /v1/nothing HTTP/1.0\r\n\r\n", b"404"),
    ],
)
async def test_heads_that_could_be_read_in_two_ways_are_refused(reached: Reached, sent: bytes, status: bytes) -> None:
    answer = await exchange(reached.port, sent)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert b"application/problem+json" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == int(status)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: ",
        b"GET /",
        b"POST /v1/ask HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"POST /v1/ask HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: ",
    ],
)
async def test_a_head_or_trailer_without_end_is_cut_off_at_once(start: Start, endless: bytes) -> None:
    """Long before the time for a head is over: it is kept in memory, and joining its pieces holds the loop."""
    async with start(header_seconds=900, body_seconds=900) as reached:
        with pytest.raises(ConnectionError):
            await flood(reached.port, endless)
        assert (await reached.call("GET", "/healthz"))[0] == 200


async def test_the_largest_head_and_chunk_by_chunk_bodies_are_taken(reached: Reached) -> None:
    lines = ["Host: a", f"Authorization: {reached.ada['Authorization']}", "Content-Type: application/json"]
    padding = "X-A: " + "a" * 31_000
    sent = head(*lines, padding, "Transfer-Encoding: chunked")
    text = b'{"question": "' + b"a" * 30_000 + b'"}'
    sent += b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in text) + b"0\r\n\r\n"
    assert (await exchange(reached.port, sent)).startswith(b"HTTP/1.1 200 ")


async def test_what_follows_a_request_to_upgrade_is_not_taken_for_a_request(reached: Reached) -> None:
    """The body of the first is not the second."""
    second = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    first = ["POST /v1/ask HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"]
    first += [f"Content-Length: {len(second)}", "", ""]
    answer = await exchange(reached.port, "\r\n".join(first).encode(), second, pause=0.05)
    assert re.findall(rb"HTTP/1.1 [0-9]+", answer) == [b"HTTP/1.1 400"]


async def test_of_two_credentials_none_counts(reached: Reached) -> None:
    lines = ["Host: a", "Content-Type: application/json", f"Content-Length: {len(ASK)}"]
    lines += [f"Authorization: {headers['Authorization']}" for headers in (reached.ada, reached.bob)]
    assert b'"credentials_invalid"' in await exchange(reached.port, head(*lines) + ASK)


async def test_a_trailer_is_no_header(reached: Reached) -> None:
    sent = head("Host: a", "Content-Type: application/json", "Transfer-Encoding: chunked")
    sent += b"%x\r\n%s\r\n0\r\n" % (len(ASK), ASK)
    sent += f"Authorization: {reached.ada['Authorization']}\r\n\r\n".encode()
    assert (await exchange(reached.port, sent)).startswith(b"HTTP/1.1 401 ")


async def test_head_is_get_without_the_body(reached: Reached) -> None:
    for path in ("/healthz", "/openapi.json", "/v1/conversations"):
        _, _, expected = await reached.call("GET", path)
        status, text, headers = await reached.call("HEAD", path)
        assert (status, text, headers["content-length"]) == (200, None, expected["content-length"]), path
    status, _, headers = await reached.call("HEAD", "/v1/ask")
    assert (status, headers["allow"]) == (405, "POST")
    assert (await reached.call("DELETE", "/healthz"))[2]["allow"] == "GET, HEAD"


async def test_one_who_trickles_is_cut_off(start: Start) -> None:
    """In the head, in the body, in a second request, and in line breaks before one."""
    async with start(header_seconds=0.3, body_seconds=0.3) as reached:
        authorization = f"Authorization: {reached.ada['Authorization']}"
        slow_head = [b"GET / HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 50]
        slow_body = [head("Host: a", authorization, "Content-Type: application/json", "Content-Length: 90")]
        slow_body += [b" "] * 50
        whole = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        for pieces in (slow_head, slow_body, [whole, *slow_head], [whole, *[b"\r\n"] * 50]):
            answer = await exchange(reached.port, *pieces, pause=0.05)
            assert answer == b"" or b"HTTP/1.1 408 " in answer


async def test_one_who_opens_and_says_nothing_is_cut_off(start: Start) -> None:
    async with start(header_seconds=0.2) as reached:
        assert b" 408 " in await exchange(reached.port)


async def test_bytes_of_a_next_request_do_not_end_the_answer_to_this_one(start: Start) -> None:
    async with start(header_seconds=0.1) as reached:
        gate = reached.world.trace.hold("complete")
        lines = ["POST /v1/ask HTTP/1.1", "Host: a", f"Authorization: {reached.ada['Authorization']}"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(ASK)}", "", ""]
        asking = asyncio.ensure_future(exchange(reached.port, "\r\n".join(lines).encode() + ASK, b"\r\n", b"GET / "))
        await reached.world.trace.until("complete")
        await asyncio.sleep(0.4)
        gate.set()
        answer = await asking
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 408 ") == 1


async def test_the_answer_may_take_longer_than_the_question(start: Start) -> None:
    """The deadlines are for receiving only."""
    async with start(header_seconds=0.2, body_seconds=0.2) as reached:
        gate = reached.world.trace.hold("complete")
        asking = asyncio.ensure_future(reached.call("POST", "/v1/ask", json={"question": "Why?"}))
        await asyncio.sleep(0.5)
        gate.set()
        assert (await asking)[0] == 200


async def test_ids_come_in_and_go_out(reached: Reached) -> None:
    _, _, headers = await reached.call("GET", "/healthz", headers={"X-Request-Id": "mine-1"})
    assert headers["x-request-id"] == "mine-1"
    trace = "0af7651916cd43dd8448eb211c80319c"
    _, _, headers = await reached.call("GET", "/healthz", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert headers["x-request-id"] == trace
    _, _, headers = await reached.call("GET", "/healthz", headers={"X-Request-Id": "<script>"})
    assert headers["x-request-id"] != "<script>"


async def test_foreign_hosts_are_refused_where_hosts_are_named(start: Start) -> None:
    async with start(allowed_hosts=["focus.example"]) as reached:
        assert (await reached.call("GET", "/healthz", headers={"Host": "focus.example:443"}))[0] == 200
        status, body, _ = await reached.call("GET", "/healthz", headers={"Host": "other.example"})
        assert (status, body["reason"]) == (421, "invalid_argument")


async def test_beyond_the_limit_requests_are_turned_away_but_not_probes(start: Start) -> None:
    async with start(max_concurrent_requests=1) as reached:
        gate = reached.world.trace.hold("complete")
        asking = asyncio.ensure_future(reached.call("POST", "/v1/ask", json={"question": "Why?"}))
        await reached.world.trace.until("complete")
        status, body, headers = await reached.call("GET", "/v1/conversations")
        assert (status, body["reason"], headers["retry-after"]) == (503, "overloaded", "1")
        assert (await reached.call("GET", "/readyz"))[0] == 200
        gate.set()
        assert (await asking)[0] == 200
        assert (await reached.call("GET", "/v1/conversations"))[0] == 200


async def test_it_is_ready_though_every_service_is_down(start: Start) -> None:
    nowhere = "127.0.0.1:1"
    async with start(session_target=nowhere, cache_target=nowhere, llm_target=nowhere) as reached:
        assert (await reached.call("GET", "/readyz"))[0] == 200
        assert (await reached.call("GET", "/healthz"))[0] == 200
        status, body, _ = await reached.call("POST", "/v1/ask", json={"question": "Why?"})
        assert (status, body["reason"]) == (503, "service_unavailable")


async def test_a_running_answer_survives_the_end_of_the_server(start: Start) -> None:
    async with aiohttp.ClientSession() as http:
        async with start() as reached:
            gate = reached.world.trace.hold("complete")
            url = f"http://127.0.0.1:{reached.port}/v1/ask"
            asking = asyncio.ensure_future(http.post(url, json={"question": "Why?"}, headers=reached.ada))
            await reached.world.trace.until("complete")
            asyncio.get_running_loop().call_later(0.3, gate.set)
        async with await asking as response:
            assert (response.status, (await response.json())["answer"]) == (200, "Brasília.")


async def test_public_keys_are_published(reached: Reached) -> None:
    _, body, _ = await reached.call("GET", "/.well-known/jwks.json")
    assert [(key["kid"], key["alg"]) for key in body["keys"]] == [("k1", "ES256")]
    assert all("d" not in key for key in body["keys"])


@pytest.fixture
def page(tmp_path: Path) -> Path:
    built = tmp_path / "assets"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html>")
    (built / "assets" / "index-B2xG93kq.js").write_text("let a;")
    (built / ".secret").write_text("no")
    return built


async def test_the_page_is_served_and_nothing_beside_it(start: Start, page: Path) -> None:
    async with start(assets_dir=page) as reached:
        status, text, headers = await reached.call("GET", "/")
        assert (status, text, headers["content-type"]) == (200, "<!doctype html>", "text/html; charset=utf-8")
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-cache"
        status, _, again = await reached.call("GET", "/", headers={"If-None-Match": headers["etag"]})
        assert (status, again["etag"]) == (304, headers["etag"])
        status, text, headers = await reached.call("GET", "/assets/index-B2xG93kq.js")
        assert (status, text, headers["content-type"]) == (200, "let a;", "text/javascript; charset=utf-8")
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        status, text, headers = await reached.call("HEAD", "/")
        assert (status, text, headers["content-length"]) == (200, "", "15")
        assert (await reached.call("GET", "/.secret"))[0] == 404


async def test_every_problem_is_described(reached: Reached) -> None:
    _, problem, _ = await reached.call("GET", "/v1/nothing")
    assert (await reached.call("GET", problem["type"]))[:2] == (200, "No such route (HTTP 404)\n")


async def test_openapi_describes_what_is_answered(reached: Reached) -> None:
    """Every field of real answers stands in the description, and every reference leads somewhere."""
    _, told, _ = await reached.call("GET", "/openapi.json")
    schemas = told["components"]["schemas"]
    for reference in set(_references(told)):
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert "422" not in told["paths"]["/v1/auth/token"]["post"]["responses"]
    assert "HTTPValidationError" not in schemas
    assert schemas["AskBody"]["examples"][0] == {"question": "What is the capital of Brazil?"}
    ask = told["paths"]["/v1/ask"]["post"]
    assert set(ask["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "`quota_exhausted`" in ask["responses"]["429"]["description"]
    _, answer, _ = await reached.call("POST", "/v1/ask", json={"question": "Why?"})
    assert models.AnswerView.model_validate(answer).model_dump() == answer
    _, made, _ = await reached.call("POST", "/v1/conversations")
    path = f"/v1/conversations/{made['conversation_id']}"
    _, turn, _ = await reached.call("POST", path + "/turns", json={"question": "Why?"})
    assert models.TurnView.model_validate(turn).model_dump() == turn
    _, page, _ = await reached.call("GET", path)
    shown = models.ConversationWithTurnsView.model_validate(page).model_dump(exclude_unset=True)
    assert shown == page


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for child in value.values() for found in _references(child)]
    if isinstance(value, list):
        return [found for child in value for found in _references(child)]
    return []
