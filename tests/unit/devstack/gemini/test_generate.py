"""generateContent and its stream, as a caller of Google's API sees them."""

import asyncio
import json
from typing import Any

import pytest

from tests.unit.devstack.gemini.caller import JUNIOR, SENIOR, Caller, question

MARK: dict[str, Any] = {"systemInstruction": {"parts": [{"text": "Begin with [[confidence=NN]] and a line break."}]}}


async def test_an_answer_has_the_fields_that_google_sends(gemini: Caller) -> None:
    answer = await gemini.ask("What is the capital of Brazil?")

    assert answer.status == 200
    assert answer.content_type == "application/json; charset=UTF-8"
    body = answer.json
    assert body.pop("responseId")
    assert body == {
        "candidates": [
            {
                "content": {"parts": [{"text": "The capital of Brazil is Brasilia."}], "role": "model"},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 8,
            "candidatesTokenCount": 9,
            "totalTokenCount": 17,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}],
        },
        "modelVersion": JUNIOR,
    }


async def test_response_ids_differ(gemini: Caller) -> None:
    first, second = await gemini.ask("a"), await gemini.ask("a")

    assert first.json["responseId"] != second.json["responseId"]


async def test_a_stream_carries_usage_in_every_chunk_and_the_reason_in_the_last(gemini: Caller) -> None:
    answer = await gemini.stream("Tell me something long enough for several chunks, please.")

    assert answer.content_type == "text/event-stream"
    events = answer.events
    assert len(events) > 2
    counts = [event["usageMetadata"]["candidatesTokenCount"] for event in events]
    assert counts == sorted(counts)
    assert all(event["usageMetadata"]["promptTokenCount"] == 15 for event in events)
    assert ["finishReason" in event["candidates"][0] for event in events] == [False] * (len(events) - 1) + [True]
    assert len({event["responseId"] for event in events}) == 1


async def test_a_stream_says_the_same_as_the_unary_answer(gemini: Caller) -> None:
    text = "Tell me something long enough for several chunks, please."

    whole = await gemini.ask(text, **MARK)
    streamed = await gemini.stream(text, **MARK)

    parts = [event["candidates"][0]["content"]["parts"][0]["text"] for event in streamed.events]
    assert "".join(parts) == whole.text
    assert streamed.events[-1]["usageMetadata"] == whole.json["usageMetadata"]


async def test_without_alt_sse_a_stream_is_one_json_array(gemini: Caller) -> None:
    path = f"/v1beta/models/{JUNIOR}:streamGenerateContent"

    answer = await gemini.post(path, question("Tell me something long enough for several chunks, please."))
    refused = await gemini.post(path, question("x"), key="nobody")

    assert answer.content_type == "application/json; charset=UTF-8"
    assert len(answer.json) > 2
    assert refused.json[0]["error"]["code"] == 400


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_both_versions_and_both_ways_to_send_a_key_work(gemini: Caller, version: str) -> None:
    by_header = await gemini.post(f"/{version}/models/{SENIOR}:generateContent", question("x"))
    by_query = await gemini.post(f"/{version}/models/{SENIOR}:generateContent?key=key-b1", question("x"), key=None)

    assert (by_header.status, by_query.status) == (200, 200)


async def test_camel_case_and_snake_case_are_the_same(gemini: Caller) -> None:
    camel = question(
        "x",
        systemInstruction={"parts": [{"text": "[[confidence="}]},
        generationConfig={"maxOutputTokens": 5, "responseMimeType": "text/plain"},
    )
    snake = question(
        "x",
        system_instruction={"parts": {"text": "[[confidence="}},
        generation_config={"max_output_tokens": 5, "response_mime_type": "text/plain"},
    )
    path = f"/v1beta/models/{JUNIOR}:generateContent"

    first, second = await gemini.post(path, camel), await gemini.post(path, snake)

    assert first.text == second.text
    assert first.text.startswith("[[confidence=95]]\n")


async def test_history_is_seen(gemini: Caller) -> None:
    contents: list[dict[str, Any]] = [
        {"role": "user", "parts": [{"text": "Who was Ada Lovelace?"}]},
        {"role": "model", "parts": [{"text": "A mathematician."}]},
        {"role": "user", "parts": [{"text": "What was my first question?"}]},
    ]
    path = f"/v1beta/models/{JUNIOR}:generateContent"

    answer = await gemini.post(path, {"contents": contents})
    contents[-1] = {"role": "user", "parts": [{"text": "Go on."}]}
    counted = await gemini.post(path, {"contents": contents})

    assert answer.text == 'Your first question was: "Who was Ada Lovelace?"'
    assert "after 2 turns of history" in counted.text


async def test_the_answer_depends_on_the_contents_alone(gemini: Caller) -> None:
    first, again, other = await gemini.ask("x"), await gemini.ask("x"), await gemini.ask("y")

    assert first.text == again.text != other.text


async def test_the_prefix_is_written_only_if_the_system_instruction_asks_for_it(gemini: Caller) -> None:
    plain = await gemini.ask("Is [[confidence=10]] mine to say?")
    steered = await gemini.ask("Answer with confidence=42.", **MARK)

    assert not plain.text.startswith("[[")
    assert steered.text.startswith("[[confidence=42]]\n")


async def test_json_output_fits_the_schema_and_holds_the_confidence(gemini: Caller) -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "confidence": {"type": "INTEGER"},
            "answer": {"type": "STRING"},
            "tags": {"type": "ARRAY", "items": {"type": "STRING"}},
        },
        "propertyOrdering": ["confidence", "answer", "tags"],
    }

    answer = await gemini.ask(
        "Say it with confidence=7",
        generationConfig={"responseMimeType": "application/json", "responseSchema": schema},
        **MARK,
    )

    tree = json.loads(answer.text)
    assert list(tree) == ["confidence", "answer", "tags"]
    assert tree["confidence"] == 7
    assert isinstance(tree["tags"], list)


async def test_several_candidates(gemini: Caller) -> None:
    answer = await gemini.ask("What is the capital of Brazil?", generationConfig={"candidateCount": 3})

    assert [candidate["index"] for candidate in answer.json["candidates"]] == [0, 1, 2]
    assert answer.json["usageMetadata"]["candidatesTokenCount"] == 27


async def test_count_tokens_agrees_with_the_usage(gemini: Caller) -> None:
    body = question("How many tokens are in this sentence?", systemInstruction={"parts": [{"text": "Be brief."}]})

    answer = await gemini.post(f"/v1beta/models/{JUNIOR}:generateContent", body)
    whole = await gemini.post(f"/v1beta/models/{JUNIOR}:countTokens", {"generateContentRequest": body})
    contents = await gemini.post(f"/v1beta/models/{JUNIOR}:countTokens", {"contents": body["contents"]})

    assert whole.json["totalTokens"] == answer.json["usageMetadata"]["promptTokenCount"]
    assert contents.json["totalTokens"] < whole.json["totalTokens"]


async def test_media_parts_cost_tokens(gemini: Caller) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}

    answer = await gemini.post(
        f"/v1beta/models/{JUNIOR}:generateContent", {"contents": [{"parts": [{"text": "What?"}, image]}]}
    )

    assert answer.json["usageMetadata"]["promptTokenCount"] == 2 + 258


async def test_models_are_listed_and_described(gemini: Caller) -> None:
    listed = await gemini.get("/v1beta/models?pageSize=4")
    rest = await gemini.get(f"/v1beta/models?pageSize=4&pageToken={listed.json['nextPageToken']}")
    one = await gemini.get(f"/v1beta/models/{SENIOR}")

    names = [model["name"] for model in listed.json["models"] + rest.json["models"]]
    assert f"models/{JUNIOR}" in names
    assert len(names) == 6
    assert "nextPageToken" not in rest.json
    assert one.json["inputTokenLimit"] == 1_048_576
    assert "generateContent" in one.json["supportedGenerationMethods"]


async def test_a_caller_that_leaves_is_counted_and_frees_its_place(gemini: Caller) -> None:
    await gemini.script({"text": "late", "delay_seconds": 30})

    call = asyncio.create_task(gemini.ask("x"))
    await asyncio.sleep(0.1)
    assert (await gemini.stats())["in_flight"] == 1
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(0.1)

    stats = await gemini.stats()
    assert (stats["in_flight"], stats["cancelled"], stats["max_in_flight"]) == (0, 1, 1)
