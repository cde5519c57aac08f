"""Questions over HTTP: JSON and events, hits and misses, repeats, leaving and cancelling."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import turn_pb2
from services.common.errors import Exhausted, Unavailable
from services.gateway import cancelling
from tests.integration.gateway.conftest import Reached, Start
from tests.integration.gateway.events import events_of

SSE = {"Accept": "text/event-stream"}
QUESTION = {"question": "Capital of Brazil?"}
QUOTA = Exhausted("No quota is left.", ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED, retry_after=7.2)


async def conversation(reached: Reached) -> str:
    _, made, _ = await reached.call("POST", "/v1/conversations")
    conversation_id: str = made["conversation_id"]
    reached.world.trace.calls.clear()
    return conversation_id


async def stored(reached: Reached, conversation_id: str) -> list[dict[str, Any]]:
    _, body, _ = await reached.call("GET", f"/v1/conversations/{conversation_id}")
    turns: list[dict[str, Any]] = body["turns"]
    return turns


async def test_an_ask_is_a_miss_then_a_hit(reached: Reached) -> None:
    status, body, headers = await reached.call("POST", "/v1/ask", json=QUESTION)
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
        "answer_id": "ZW50cnk",
    }
    assert reached.world.trace.calls == ["look_up", "complete", "store"]
    status, body, headers = await reached.call("POST", "/v1/ask", json=QUESTION)
    assert (status, headers["x-cache"], body["answer"]) == (200, "hit", "Brasília.")
    assert (body["cost_microusd"], body["usage"]["output_tokens"]) == (0, 0)
    assert reached.world.trace.calls == ["look_up", "complete", "store", "look_up"]


async def test_an_ask_streams_its_pieces_and_then_all_that_json_says(reached: Reached) -> None:
    async with reached.http.post("/v1/ask", json=QUESTION, headers={**reached.ada, **SSE}) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-cache"] == "miss"
        events = [event async for event in events_of(response)]
    assert [data["text"] for name, data in events if name == "delta"] == ["Bra", "sí", "lia."]
    assert events[-1][0] == "done"
    _, body, _ = await reached.call("POST", "/v1/ask", json=QUESTION)
    assert {**events[-1][1], "cache": "hit", "cost_microusd": 0, "usage": body["usage"]} == body


async def test_a_hit_streams_as_one_piece(reached: Reached) -> None:
    await reached.call("POST", "/v1/ask", json=QUESTION)
    async with reached.http.post("/v1/ask", json=QUESTION, headers={**reached.ada, **SSE}) as response:
        assert response.headers["x-cache"] == "hit"
        events = [event async for event in events_of(response)]
    assert [name for name, _ in events] == ["delta", "done"]
    assert events[0][1] == {"text": "Brasília."}


async def test_a_first_turn_uses_the_cache_and_a_second_one_sees_the_first(reached: Reached) -> None:
    path = f"/v1/conversations/{await conversation(reached)}/turns"
    status, first, headers = await reached.call("POST", path, json=QUESTION)
    assert (status, first["seq"], first["cache"], first["outcome"]) == (200, 1, "miss", "answer")
    assert headers["x-turn-id"] == first["turn_id"]
    calls = [call for call in reached.world.trace.calls if call != "renew"]
    assert sorted(calls) == sorted(["look_up", "begin", "complete", "commit", "store"])
    reached.world.trace.calls.clear()
    status, second, headers = await reached.call("POST", path, json={"question": "How many live there?"})
    assert (second["seq"], second["cache"], headers["x-cache"]) == (2, "bypass", "bypass")
    assert [call for call in reached.world.trace.calls if call != "renew"] == ["begin", "complete", "commit"]
    said = [message.parts[0].text for message in reached.world.models.prompts[-1].messages]
    assert said == ["Capital of Brazil?", "Brasília.", "How many live there?"]


async def test_a_question_that_was_asked_alone_is_a_hit_in_a_new_conversation(reached: Reached) -> None:
    await reached.call("POST", "/v1/ask", json=QUESTION)
    conversation_id = await conversation(reached)
    _, turn, headers = await reached.call("POST", f"/v1/conversations/{conversation_id}/turns", json=QUESTION)
    assert (turn["cache"], headers["x-cache"], turn["answer"]) == ("hit", "hit", "Brasília.")
    assert [one["answer"] for one in await stored(reached, conversation_id)] == ["Brasília."]


async def test_done_comes_only_after_the_commit(reached: Reached) -> None:
    conversation_id = await conversation(reached)
    gate = reached.world.trace.hold("commit")
    path = f"/v1/conversations/{conversation_id}/turns"
    async with reached.http.post(path, json=QUESTION, headers={**reached.ada, **SSE}) as response:
        events = events_of(response)
        for expected in ("Bra", "sí", "lia."):
            assert await anext(events) == ("delta", {"text": expected})
        await reached.world.trace.until("commit")
        last = asyncio.ensure_future(anext(events))
        done, _ = await asyncio.wait({last}, timeout=0.1)
        assert not done
        gate.set()
        name, data = await last
    assert (name, data["seq"]) == ("done", 1)


@pytest.mark.parametrize("headers", [{}, SSE])
async def test_a_failure_before_the_first_piece_is_an_http_problem(reached: Reached, headers: dict[str, str]) -> None:
    for call in ("complete", "generate"):
        reached.world.trace.failures[call].extend([QUOTA, QUOTA])
    conversation_id = await conversation(reached)
    for path in ("/v1/ask", f"/v1/conversations/{conversation_id}/turns"):
        status, body, answered = await reached.call("POST", path, json=QUESTION, headers=headers)
        assert (status, body["reason"], body["retry_after"]) == (429, "quota_exhausted", 8)
        assert answered["retry-after"] == "8"
    (turn,) = await stored(reached, conversation_id)
    assert (turn["outcome"], turn["failure_reason"]) == ("failure", "quota_exhausted")


async def test_a_failure_after_the_first_piece_is_an_event(reached: Reached) -> None:
    broken = Unavailable("It broke off.", ErrorReason.ERROR_REASON_PROVIDER_STREAM_BROKEN)
    reached.world.trace.failures["piece"].append(broken)
    conversation_id = await conversation(reached)
    path = f"/v1/conversations/{conversation_id}/turns"
    async with reached.http.post(path, json=QUESTION, headers={**reached.ada, **SSE}) as response:
        events = [event async for event in events_of(response)]
        request_id = response.headers["x-request-id"]
    assert [name for name, _ in events] == ["delta", "error"]
    assert events[1][1]["reason"] == "provider_stream_broken"
    assert events[1][1]["request_id"] == request_id
    assert [turn["outcome"] for turn in await stored(reached, conversation_id)] == ["failure"]


async def test_silence_is_filled_with_comments(start: Start) -> None:
    async with start(heartbeat_seconds=0.05) as reached:
        gate = reached.world.trace.hold("piece")
        async with reached.http.post("/v1/ask", json=QUESTION, headers={**reached.ada, **SSE}) as response:
            events = events_of(response)
            assert (await anext(events))[0] == "delta"
            assert [(await anext(events))[0] for _ in range(2)] == [":", ":"]
            gate.set()
            assert [name async for name, _ in events if name != ":"] == ["delta", "delta", "done"]


async def test_waiting_turns_are_told_their_place_and_answered_in_order(reached: Reached) -> None:
    conversation_id = await conversation(reached)
    path = f"/v1/conversations/{conversation_id}/turns"
    gate = reached.world.trace.hold("complete")
    first = asyncio.ensure_future(reached.call("POST", path, json={"question": "First?"}))
    await reached.world.trace.until("complete")
    async with reached.http.post(path, json={"question": "Second?"}, headers={**reached.ada, **SSE}) as response:
        events = events_of(response)
        assert await anext(events) == (
            "queued",
            {"waiting_for": "conversation", "position": 1, "expected_wait_ms": 0},
        )
        gate.set()
        names = [name async for name, _ in events]
    assert names[-1] == "done"
    await first
    assert [turn["question"] for turn in await stored(reached, conversation_id)] == ["First?", "Second?"]


@pytest.mark.parametrize("headers", [{}, SSE])
async def test_a_client_that_leaves_does_not_lose_its_turn(reached: Reached, headers: dict[str, str]) -> None:
    conversation_id = await conversation(reached)
    call = "generate" if headers else "complete"
    gate = reached.world.trace.hold(call)
    path = f"/v1/conversations/{conversation_id}/turns"
    asking = asyncio.ensure_future(reached.call("POST", path, json=QUESTION, headers=headers))
    await reached.world.trace.until(call)
    asking.cancel()
    await asyncio.sleep(0.05)
    gate.set()
    await reached.world.trace.until("commit")
    assert "stopped" not in reached.world.trace.calls
    assert [turn["answer"] for turn in await stored(reached, conversation_id)] == ["Brasília."]


@pytest.mark.parametrize("headers", [{}, SSE])
async def test_a_stateless_question_ends_with_its_client(reached: Reached, headers: dict[str, str]) -> None:
    call = "generate" if headers else "complete"
    reached.world.trace.hold(call)
    asking = asyncio.ensure_future(reached.call("POST", "/v1/ask", json=QUESTION, headers=headers))
    await reached.world.trace.until(call)
    asking.cancel()
    await asyncio.wait_for(reached.world.trace.until("stopped"), 5)
    assert "store" not in reached.world.trace.calls


async def test_leaving_the_queue_gives_the_place_up(reached: Reached) -> None:
    conversation_id = await conversation(reached)
    path = f"/v1/conversations/{conversation_id}/turns"
    gate = reached.world.trace.hold("complete")
    first = asyncio.ensure_future(reached.call("POST", path, json={"question": "First?"}))
    await reached.world.trace.until("complete")
    second = asyncio.ensure_future(reached.call("POST", path, json={"question": "Second?"}))
    await reached.world.trace.until("wait")
    second.cancel()
    await asyncio.wait_for(reached.world.trace.until("left the queue"), 5)
    await asyncio.wait_for(reached.world.trace.until("abandon"), 5)
    gate.set()
    await first
    assert [turn["question"] for turn in await stored(reached, conversation_id)] == ["First?"]


async def test_cancel_stops_the_model_and_keeps_the_text_so_far(reached: Reached) -> None:
    conversation_id = await conversation(reached)
    reached.world.trace.hold("piece")
    path = f"/v1/conversations/{conversation_id}/turns"
    async with reached.http.post(path, json=QUESTION, headers={**reached.ada, **SSE}) as response:
        events = events_of(response)
        assert await anext(events) == ("delta", {"text": "Bra"})
        turn_id = response.headers["x-turn-id"]
        status, _, _ = await reached.call("POST", f"{path}/{turn_id}/cancel", headers=reached.bob)
        assert status == 404
        status, body, _ = await reached.call("POST", f"{path}/{turn_id}/cancel")
        assert (status, body["outcome"]) == (200, "cancelled")
        name, done = await anext(events)
    assert (name, done["outcome"], done["answer"]) == ("done", "cancelled", "Bra")
    assert "stopped" in reached.world.trace.calls
    (turn,) = await stored(reached, conversation_id)
    assert (turn["outcome"], turn["answer"], turn["finish_reason"]) == ("cancelled", "Bra", "cancelled")
    status, body, _ = await reached.call("POST", f"{path}/{turn_id}/cancel")
    assert (status, body["outcome"]) == (200, "cancelled")


async def test_cancel_of_a_turn_that_has_ended_tells_how(reached: Reached) -> None:
    path = f"/v1/conversations/{await conversation(reached)}/turns"
    _, turn, _ = await reached.call("POST", path, json=QUESTION)
    status, body, _ = await reached.call("POST", f"{path}/{turn['turn_id']}/cancel")
    assert (status, body["outcome"]) == (200, "answer")
    status, body, _ = await reached.call("POST", f"{path}/{turn['turn_id']}/cancel", headers=reached.bob)
    assert (status, body["reason"]) == (404, "turn_not_found")


async def test_what_another_gateway_cancelled_is_stopped_by_the_heartbeat(reached: Reached) -> None:
    conversation_id = await conversation(reached)
    reached.world.trace.hold("piece")
    path = f"/v1/conversations/{conversation_id}/turns"
    async with reached.http.post(path, json=QUESTION, headers={**reached.ada, **SSE}) as response:
        events = events_of(response)
        await anext(events)
        turn_id = response.headers["x-turn-id"]
        reached.world.turns.cancelled = [str(uuid.uuid4()), turn_id]
        name, done = await anext(events)
    assert (name, done["outcome"], done["answer"]) == ("done", "cancelled", "Bra")
    assert "stopped" in reached.world.trace.calls


async def test_cancel_reaches_a_turn_that_this_gateway_does_not_run(reached: Reached) -> None:
    """The holder hears of it by its heartbeat; who cancelled waits for the commit."""
    conversation_id = await conversation(reached)
    elsewhere = reached.world.turns.conversations[conversation_id]
    turn_id = elsewhere.lease = str(uuid.uuid4())
    asking = asyncio.ensure_future(reached.call("POST", f"/v1/conversations/{conversation_id}/turns/{turn_id}/cancel"))
    await asyncio.wait_for(reached.world.trace.until("cancel", 2), 5)
    assert reached.world.turns.cancelled == [turn_id]
    elsewhere.turns.append(turn_pb2.Turn(turn_id=turn_id, seq=1, outcome=turn_pb2.OUTCOME_CANCELLED))
    status, body, _ = await asking
    assert (status, body["outcome"]) == (200, "cancelled")


async def test_cancel_of_a_turn_that_does_not_end_says_so(reached: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "PATIENCE_SECONDS", 0.0)
    conversation_id = await conversation(reached)
    turn_id = reached.world.turns.conversations[conversation_id].lease = str(uuid.uuid4())
    path = f"/v1/conversations/{conversation_id}/turns/{turn_id}/cancel"
    status, body, _ = await reached.call("POST", path)
    assert (status, body["outcome"]) == (202, "stopping")
    reached.world.turns.conversations[conversation_id].lease = ""
    status, body, _ = await reached.call("POST", path)
    assert (status, body["reason"]) == (404, "turn_not_found")


async def test_a_repeat_gets_the_saved_outcome(reached: Reached) -> None:
    conversation_id = await conversation(reached)
    for path in (f"/v1/conversations/{conversation_id}/turns", "/v1/ask"):
        key = {"Idempotency-Key": str(uuid.uuid4())}
        status, first, headers = await reached.call("POST", path, json=QUESTION, headers=key)
        assert (status, "idempotency-replayed" in headers) == (200, False)
        status, second, headers = await reached.call("POST", path, json={**QUESTION, "mode": "auto"}, headers=key)
        assert (status, headers["idempotency-replayed"]) == (200, "true")
        assert second["answer"] == first["answer"]
        assert second.get("turn_id") == first.get("turn_id")
        status, body, _ = await reached.call("POST", path, json={"question": "Other?"}, headers=key)
        assert (status, body["reason"]) == (422, "idempotency_key_reused")
    assert reached.world.trace.calls.count("complete") == 1
    assert len(await stored(reached, conversation_id)) == 1


async def test_an_ask_under_way_is_told_to_its_repeat(reached: Reached) -> None:
    key = {"Idempotency-Key": "once"}
    gate = reached.world.trace.hold("complete")
    first = asyncio.ensure_future(reached.call("POST", "/v1/ask", json=QUESTION, headers=key))
    await reached.world.trace.until("complete")
    status, body, headers = await reached.call("POST", "/v1/ask", json=QUESTION, headers=key)
    assert (status, body["reason"], headers["retry-after"]) == (409, "idempotency_in_progress", "1")
    gate.set()
    assert (await first)[0] == 200


async def test_an_ask_with_a_key_is_finished_without_its_client(reached: Reached) -> None:
    key = {"Idempotency-Key": "once"}
    gate = reached.world.trace.hold("complete")
    first = asyncio.ensure_future(reached.call("POST", "/v1/ask", json=QUESTION, headers=key))
    await reached.world.trace.until("complete")
    first.cancel()
    await asyncio.sleep(0.05)
    gate.set()
    await reached.world.trace.until("commit_ask")
    _, body, headers = await reached.call("POST", "/v1/ask", json=QUESTION, headers=key)
    assert (body["answer"], headers["idempotency-replayed"]) == ("Brasília.", "true")
    assert reached.world.trace.calls.count("complete") == 1


async def test_a_turn_can_be_answered_anew_and_asked_differently(reached: Reached) -> None:
    path = f"/v1/conversations/{await conversation(reached)}/turns"
    _, first, _ = await reached.call("POST", path, json=QUESTION)
    status, again, _ = await reached.call("POST", f"{path}/{first['turn_id']}/regenerate")
    assert (status, again["question"], again["seq"], again["cache"]) == (200, "Capital of Brazil?", 2, "bypass")
    status, edited, _ = await reached.call("POST", f"{path}/{first['turn_id']}/edit", json={"question": "Of Peru?"})
    assert (status, edited["question"], edited["seq"]) == (200, "Of Peru?", 3)
    assert [len(prompt.messages) for prompt in reached.world.models.prompts] == [1, 1, 1]


@pytest.mark.parametrize("down", ["begin", "begin_ask"])
async def test_a_store_that_is_away_fails_conversations_and_not_questions(reached: Reached, down: str) -> None:
    away = Unavailable("The store is away.", ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, retry_after=1.0)
    conversation_id = await conversation(reached)
    reached.world.trace.failures[down].append(away)
    path, headers = (
        (f"/v1/conversations/{conversation_id}/turns", {})
        if down == "begin"
        else ("/v1/ask", {"Idempotency-Key": "once"})
    )
    status, body, answered = await reached.call("POST", path, json=QUESTION, headers=headers)
    assert (status, body["reason"], answered["retry-after"]) == (503, "store_unavailable", "1")
    await reached.world.trace.until("abandon" if down == "begin" else "abandon_ask")
    status, _, _ = await reached.call("POST", "/v1/ask", json=QUESTION)
    assert status == 200
