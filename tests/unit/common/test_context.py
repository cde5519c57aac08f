import asyncio

import pytest

from services.common import context

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_a_trace_is_taken_over_and_its_id_is_the_request_id() -> None:
    call = context.bind(traceparent=TRACEPARENT, tenant_id="t")
    assert call == context.CallContext(TRACE, TRACE, "t")
    assert context.current() == call


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        TRACEPARENT.upper(),
        TRACEPARENT + "\n",
        TRACEPARENT + "-extra",
        " " + TRACEPARENT,
        TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16),
        TRACEPARENT.replace(TRACE, TRACE[:-1]),
        TRACEPARENT.replace("00-", "ff-", 1),
        "x" * 10_000,
    ],
)
async def test_a_malformed_trace_is_replaced(traceparent: str | None) -> None:
    call = context.bind(traceparent=traceparent)
    assert call.trace_id != TRACE
    assert len(call.trace_id) == 32
    assert int(call.trace_id, 16)
    assert call.request_id == call.trace_id


@pytest.mark.parametrize("request_id", ["a", "x" * 128, "018f-ab.c:d+e/f=g_h"])
async def test_a_callers_request_id_is_kept(request_id: str) -> None:
    assert context.bind(request_id, TRACEPARENT).request_id == request_id


@pytest.mark.parametrize(
    "request_id", ["", "x" * 129, "two words", "line\nbreak", "end\n", "\n", "é", '"}', "\x1b[31m", "a\x00"]
)
async def test_a_forged_or_over_long_request_id_is_replaced(request_id: str) -> None:
    assert context.bind(request_id, TRACEPARENT).request_id == TRACE


async def test_a_call_goes_on_with_the_same_trace_and_a_span_of_its_own() -> None:
    context.bind(traceparent=TRACEPARENT)
    first, second = (dict(context.outgoing_metadata()) for _ in range(2))
    assert first.keys() == second.keys() == {"traceparent"}
    assert len({first["traceparent"], second["traceparent"], TRACEPARENT}) == 3
    assert context.bind(traceparent=first["traceparent"]).trace_id == TRACE


async def test_a_request_id_of_the_callers_own_goes_on_too() -> None:
    context.bind("mine", TRACEPARENT)
    assert dict(context.outgoing_metadata())["x-request-id"] == "mine"


async def test_tasks_serve_their_own_calls() -> None:
    async def serve(name: str) -> str:
        context.bind(name)
        await asyncio.sleep(0)
        call = context.current()
        assert call is not None
        return call.request_id

    assert list(await asyncio.gather(serve("a"), serve("b"))) == ["a", "b"]


def test_outside_a_call_nothing_is_sent() -> None:
    assert context.current() is None
    assert context.outgoing_metadata() == ()
