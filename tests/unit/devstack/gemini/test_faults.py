"""Every fault, seen from the caller's side of the socket."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.unit.devstack.gemini.caller import JUNIOR, KEY, SENIOR, Caller, question

CHUNKS = {"chunks": ["one ", "two ", "three ", "four"]}


async def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("status", "name"),
    [(429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED")],
)
async def test_a_status_has_googles_body(gemini: Caller, status: int, name: str) -> None:
    await gemini.fault({"status": status})

    for answer in (await gemini.ask("x"), await gemini.stream("x")):
        assert answer.status == status
        assert answer.json["error"]["code"] == status
        assert answer.json["error"]["status"] == name


async def test_400_and_403_are_about_the_key(gemini: Caller) -> None:
    await gemini.fault({"status": 400})
    invalid = await gemini.ask("x")
    await gemini.fault({"status": 403})
    leaked = await gemini.ask("x")

    assert invalid.details["ErrorInfo"]["reason"] == "API_KEY_INVALID"
    assert "leaked" in leaked.json["error"]["message"]


@pytest.mark.parametrize(
    ("effect", "quota_id", "delay"),
    [
        ({"quota": "rpm"}, "PerMinute", "30.000000000s"),
        ({"quota": "rpd", "retry_info": "86400s"}, "PerDay", "86400s"),
        ({"quota": "tpm", "retry_info": "missing"}, "PerMinute", None),
    ],
)
async def test_a_429_lies_as_it_is_told(
    gemini: Caller, effect: dict[str, Any], quota_id: str, delay: str | None
) -> None:
    await gemini.fault({"status": 429, **effect})

    details = (await gemini.ask("x")).details

    assert quota_id in details["QuotaFailure"]["violations"][0]["quotaId"]
    assert details.get("RetryInfo", {}).get("retryDelay") == delay


async def test_a_spend_429_has_no_details(gemini: Caller) -> None:
    await gemini.fault({"status": 429, "quota": "spend"})

    assert (await gemini.ask("x")).details == {}


async def test_retry_info_of_a_real_429_can_be_bent_too(gemini: Caller) -> None:
    await gemini.control("limits", {"limits": {"*": {"*": {"rpm": 1}}}})
    await gemini.fault({"retry_info": "missing"})

    await gemini.ask("x")
    refused = await gemini.ask("x")

    assert refused.status == 429
    assert "RetryInfo" not in refused.details


async def test_faults_strike_whom_they_name_and_as_often_as_they_say(gemini: Caller) -> None:
    await gemini.fault({"status": 503}, model="*lite", project="a", key="key-a1", skip=1, count=2)

    assert [(await gemini.ask("x", key="key-a2")).status, (await gemini.ask("x", model=SENIOR)).status] == [200, 200]
    assert [(await gemini.ask("x")).status for _ in range(4)] == [200, 503, 503, 200]
    assert (await gemini.get("/_emulator/state", key=None)).json["faults"][0]["struck"] == 2


async def test_a_percentage_is_repeatable(gemini: Caller) -> None:
    runs = []
    for _ in range(2):
        await gemini.fault({"status": 500}, percent=30, seed=4)
        runs.append([(await gemini.ask("x")).status for _ in range(40)])

    assert runs[0] == runs[1]
    assert 4 < runs[0].count(500) < 20


async def test_faults_begin_and_end_by_the_clock(gemini: Caller) -> None:
    await gemini.fault({"status": 500}, starts_in=0.15, lasts=0.2)

    before = (await gemini.ask("x")).status
    await asyncio.sleep(0.2)
    during = (await gemini.ask("x")).status
    await asyncio.sleep(0.25)
    after = (await gemini.ask("x")).status

    assert (before, during, after) == (200, 500, 200)


async def test_faults_end_by_name(gemini: Caller) -> None:
    await gemini.control(
        "faults",
        {
            "faults": [
                {"name": "one", "effect": {"status": 500}},
                {"name": "two", "model": "nothing", "effect": {"hang": True}},
            ]
        },
    )
    async with gemini.session.delete(gemini.url + "/_emulator/faults?name=one") as response:
        left = await response.json()

    assert [fault["name"] for fault in left["faults"]] == ["two"]
    assert (await gemini.ask("x")).status == 200


async def test_latency_before_and_between_chunks(gemini: Caller) -> None:
    await gemini.script(CHUNKS)
    await gemini.fault({"first_byte_delay": 0.1, "chunk_delay": 0.1})

    began = await now()
    answer = await gemini.stream("x")

    assert len(answer.events) == 4
    assert 0.39 < await now() - began < 0.9


async def test_tokens_per_second_pace_a_stream_and_a_whole_answer(gemini: Caller) -> None:
    await gemini.script({"chunks": ["four" * 4] * 3})
    await gemini.fault({"tokens_per_second": 40})

    began = await now()
    await gemini.stream("x")
    streamed = await now() - began
    await gemini.ask("x")

    assert 0.19 < streamed < 0.6
    assert 0.29 < await now() - began - streamed < 0.7


@pytest.mark.parametrize("cut", ["reset", "close"])
async def test_a_cut_stream_breaks_the_connection_within_the_body(gemini: Caller, cut: str) -> None:
    await gemini.script(CHUNKS)
    await gemini.fault({"cut_after_chunks": 2, "cut": cut, "chunk_delay": 0.05})

    received = bytearray()

    async def read() -> None:
        path = f"{gemini.url}/v1beta/models/{JUNIOR}:streamGenerateContent?alt=sse"
        async with gemini.session.post(path, json=question("x"), headers={"x-goog-api-key": KEY}) as response:
            async for piece in response.content.iter_any():
                received.extend(piece)

    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await read()
    assert b"three" not in received
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await gemini.ask("x")


async def test_a_cut_by_end_of_file_is_clean_but_early(gemini: Caller) -> None:
    await gemini.script(CHUNKS)
    await gemini.fault({"cut_after_chunks": 2, "cut": "eof"})

    events = (await gemini.stream("x")).events

    assert len(events) == 2
    assert "finishReason" not in events[-1]["candidates"][0]


async def test_an_error_inside_a_stream_is_an_event(gemini: Caller) -> None:
    await gemini.script(CHUNKS)
    await gemini.fault({"error_after_chunks": 1, "status": 503})

    answer = await gemini.stream("x")

    assert answer.status == 200
    assert len(answer.events) == 2
    assert answer.events[1]["error"]["status"] == "UNAVAILABLE"


@pytest.mark.parametrize("effect", [{"hang": True}, {"hang_after_chunks": 2}])
async def test_a_hang_lasts_until_the_caller_leaves(gemini: Caller, effect: dict[str, Any]) -> None:
    await gemini.script(CHUNKS)
    await gemini.fault(effect)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gemini.stream("x"), 0.2)
    await asyncio.sleep(0.1)

    stats = await gemini.stats()
    assert (stats["in_flight"], stats["cancelled"]) == (0, 1)


async def test_safety_loses_the_content_and_max_tokens_does_not(gemini: Caller) -> None:
    await gemini.fault({"finish_reason": "SAFETY"})
    [candidate] = (await gemini.ask("x")).json["candidates"]
    events = (await gemini.stream("x")).events
    await gemini.fault({"finish_reason": "MAX_TOKENS"})
    cut = await gemini.ask("x")

    assert candidate == {"finishReason": "SAFETY", "index": 0}
    assert [event["candidates"] for event in events] == [[{"finishReason": "SAFETY", "index": 0}]]
    assert cut.json["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert cut.text


async def test_a_blocked_prompt_has_no_candidates(gemini: Caller) -> None:
    await gemini.fault({"block_reason": "PROHIBITED_CONTENT"})

    whole = (await gemini.ask("x")).json
    [event] = (await gemini.stream("x")).events

    assert whole["promptFeedback"] == event["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert "candidates" not in whole


async def test_usage_can_be_wrong_or_missing(gemini: Caller) -> None:
    await gemini.fault({"usage": {"prompt": 7, "cached": 9, "total": 1}})
    wrong = (await gemini.ask("x")).json["usageMetadata"]
    await gemini.fault({"usage": "missing"})
    missing = await gemini.stream("x")

    assert (wrong["promptTokenCount"], wrong["cachedContentTokenCount"], wrong["totalTokenCount"]) == (7, 9, 1)
    assert all("usageMetadata" not in event for event in missing.events)


async def test_malformed_events(gemini: Caller) -> None:
    plain = await gemini.stream("x")
    await gemini.fault({"malformed_sse": "broken_json"})
    broken = await gemini.stream("x")
    await gemini.fault({"malformed_sse": "garbage"})
    garbage = await gemini.stream("x")
    await gemini.fault({"malformed_sse": "byte_by_byte"})
    split = await gemini.stream("x")
    await gemini.fault({"malformed_sse": "lf"})
    lines = (await gemini.stream("x")).raw.decode().split("\n\n")

    with pytest.raises(json.JSONDecodeError):
        _ = broken.events
    assert b"\xff" in garbage.raw
    assert [event["candidates"] for event in split.events] == [event["candidates"] for event in plain.events]
    assert all(line.startswith(": a comment\ndata: {") for line in lines[:-1])


async def test_invalid_json_has_status_200(gemini: Caller) -> None:
    await gemini.fault({"invalid_json": True})

    answer = await gemini.ask("x")

    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json


async def test_an_empty_answer(gemini: Caller) -> None:
    await gemini.fault({"empty": True})

    assert (await gemini.ask("x")).text == ""


async def test_a_fault_that_does_not_exist_is_422(gemini: Caller) -> None:
    answer = await gemini.post("/_emulator/faults", {"faults": [{"effect": {"explode": True}}]})

    assert answer.status == 422
