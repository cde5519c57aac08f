"""Questions over HTTP: JSON and events, hits and misses, repeats, leaving and cancelling."""

from __future__ import annotations

from tests.integration.gateway.conftest import Reached


async def test_an_ask_is_a_miss_then_a_hit(reached: Reached) -> None:
    status, body, headers = await reached.call("POST", "/v1/ask", json={"question": "Capital of Brazil?"})
    assert (status, headers["x-cache"]) == (200, "miss")
    assert body == {
        "answer": "Brasília.",
        "tier": "junior",
        "model": "scripted",
        "confidence": 0.9,
        "finish_reason": "stop",
        "escalated": False,
        "usage": {"prompt_tokens": 10, "cached_tokens": 0, "output_tokens": 3, "thought_tokens": 0},
        "cost_microusd": 7,
        "cache": "miss",
    }
    assert reached.world.trace.calls == ["look_up", "complete", "store"]
    status, body, headers = await reached.call("POST", "/v1/ask", json={"question": "Capital of Brazil?"})
    assert (status, headers["x-cache"], body["answer"]) == (200, "hit", "Brasília.")
    assert (body["cost_microusd"], body["usage"]["output_tokens"]) == (0, 0)
    assert reached.world.trace.calls == ["look_up", "complete", "store", "look_up"]
