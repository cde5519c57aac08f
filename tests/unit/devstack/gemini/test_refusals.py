"""What Google refuses, and the bodies of its refusals."""

from typing import Any

import pytest

from tests.unit.devstack.gemini.caller import JUNIOR, Caller, question

PATH = f"/v1beta/models/{JUNIOR}:generateContent"


async def test_an_unknown_key_is_400_with_its_reason(gemini: Caller) -> None:
    answer = await gemini.ask("x", key="nobody")

    assert answer.status == 400
    assert answer.json["error"]["status"] == "INVALID_ARGUMENT"
    assert answer.json["error"]["message"] == "API key not valid. Please pass a valid API key."
    assert answer.details["ErrorInfo"] == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


async def test_no_key_is_403_and_a_bearer_token_401(gemini: Caller) -> None:
    without = await gemini.ask("x", key=None)
    bearer = await gemini.post(PATH, question("x"), key=None, Authorization="Bearer abc")

    assert (without.status, without.json["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert (bearer.status, bearer.json["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_a_leaked_key_is_403_until_it_is_healthy(gemini: Caller) -> None:
    await gemini.control("keys", {"leaked": ["key-a1"]})
    leaked = await gemini.ask("x")
    sibling = await gemini.ask("x", key="key-a2")
    await gemini.control("keys", {"healthy": ["key-a1"]})
    healthy = await gemini.ask("x")

    assert leaked.status == 403
    assert leaked.json["error"]["message"] == "Your API key was reported as leaked. Please use another API key."
    assert (sibling.status, healthy.status) == (200, 200)


async def test_keys_come_and_go(gemini: Caller) -> None:
    await gemini.control("keys", {"add": [{"project": "c", "key": "key-c1"}], "remove": ["key-a1"]})

    assert (await gemini.ask("x", key="key-c1")).status == 200
    assert (await gemini.ask("x", key="key-a1")).status == 400


async def test_an_unknown_model_is_404(gemini: Caller) -> None:
    answer = await gemini.ask("x", model="gemini-0")
    described = await gemini.get("/v1beta/models/gemini-0")

    assert (answer.status, described.status) == (404, 404)
    assert answer.json["error"]["status"] == "NOT_FOUND"
    assert answer.json["error"]["message"].startswith("models/gemini-0 is not found for API version v1beta")


async def test_an_unknown_path_is_a_page(gemini: Caller) -> None:
    answer = await gemini.post("/v1beta/nothing:here", {})
    method = await gemini.post(f"/v1beta/models/{JUNIOR}:embedContent", {})

    assert (answer.status, method.status) == (404, 404)
    assert answer.content_type.startswith("text/html")


async def test_unknown_names_are_reported_together_with_their_places(gemini: Caller) -> None:
    answer = await gemini.post(
        PATH, {"contents": [{"role": "user", "parts": [{"text": "x", "txt": 1}]}], "temperature": 1}
    )

    first = "Invalid JSON payload received. Unknown name \"txt\" at 'contents[0].parts[0]': Cannot find field."
    second = 'Invalid JSON payload received. Unknown name "temperature": Cannot find field.'
    assert answer.status == 400
    assert answer.json["error"]["message"] == f"{first}\n{second}"
    assert answer.details["BadRequest"]["fieldViolations"] == [
        {"field": "contents[0].parts[0]", "description": first},
        {"description": second},
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "contents is not specified"),
        ({"contents": []}, "contents is not specified"),
        ({"contents": "x"}, "Invalid value at 'contents[0]'"),
        ({"contents": [{"parts": []}]}, "contents.parts must not be empty"),
        ({"contents": [{"parts": [{}]}]}, "required oneof field 'data'"),
        ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "Please use a valid role: user, model."),
        ({"contents": [{"parts": [{"text": 1}]}]}, "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 1"),
        (question("x", generationConfig={"temperature": 3}), "must be in the range [0.0, 2.0]"),
        (question("x", generationConfig={"temperature": "hot"}), "'generation_config.temperature' (TYPE_FLOAT)"),
        (question("x", generationConfig={"candidateCount": 9}), "must be in the range [1, 8]"),
        (question("x", generationConfig={"maxOutputTokens": 1.5}), "TYPE_INT32"),
        (question("x", generationConfig={"responseLogprobs": True}), "Logprobs is not enabled"),
        (question("x", generationConfig={"responseSchema": {"type": "STRING"}}), "response_mime_type"),
        (
            question(
                "x",
                generationConfig={
                    "responseMimeType": "application/json",
                    "responseSchema": {"type": "OBJECT", "properties": {"a": {"const": 1}}},
                },
            ),
            "Unknown name \"const\" at 'generation_config.response_schema.properties[0].value'",
        ),
        (question("y" * 4_194_312), "exceeds the maximum number of tokens allowed (1048576)"),
    ],
)
async def test_a_body_that_does_not_fit_is_400(gemini: Caller, body: dict[str, Any], expected: str) -> None:
    answer = await gemini.post(PATH, body)

    assert answer.status == 400
    assert answer.json["error"]["status"] == "INVALID_ARGUMENT"
    assert expected in answer.json["error"]["message"]


@pytest.mark.parametrize("raw", [b"{", b"nonsense", b"[]", b'{"contents": "\xff"}', b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_400(gemini: Caller, raw: bytes) -> None:
    answer = await gemini.post(PATH, raw=raw)

    assert answer.status == 400
    assert answer.json["error"]["message"].startswith("Invalid JSON payload received.")


async def test_a_deeply_nested_schema_is_400(gemini: Caller) -> None:
    schema: dict[str, Any] = {"type": "STRING"}
    for _ in range(300):
        schema = {"type": "ARRAY", "items": schema}

    answer = await gemini.ask("x", generationConfig={"responseMimeType": "application/json", "responseSchema": schema})

    assert answer.status == 400


async def test_numbers_may_come_as_strings_and_null_is_absent(gemini: Caller) -> None:
    answer = await gemini.ask("x", generationConfig={"temperature": "0.5", "seed": "7"}, safetySettings=None)

    assert answer.status == 200


async def test_tools_safety_and_thinking_are_accepted(gemini: Caller) -> None:
    answer = await gemini.ask(
        "x",
        tools=[
            {
                "functionDeclarations": [
                    {"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}}
                ]
            },
            {"googleSearch": {}},
        ],
        toolConfig={"functionCallingConfig": {"mode": "AUTO"}},
        safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        generationConfig={"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": False}, "topK": 40, "topP": 0.9},
    )

    assert answer.status == 200


async def test_a_body_above_twenty_mebibytes_is_400(gemini: Caller) -> None:
    answer = await gemini.post(PATH, raw=b" " * (20 * 1024 * 1024 + 1))

    assert answer.status == 400
    assert "exceeds the limit: 20971520 bytes" in answer.json["error"]["message"]
