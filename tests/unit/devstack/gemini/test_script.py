"""Scripted answers: what a rule can say, and to whom."""

import asyncio
from typing import Any

import pytest

from tests.unit.devstack.gemini.caller import JUNIOR, SENIOR, Caller

MARK: dict[str, Any] = {"systemInstruction": {"parts": [{"text": "Begin with [[confidence=NN]] and a line break."}]}}


async def test_rules_are_chosen_by_question_model_and_number(gemini: Caller) -> None:
    await gemini.script(
        {"match": "^hard", "model": "*lite", "text": "I guess so", "confidence": 20, "times": 1},
        {"match": "^hard", "model": "*pro", "text": "I know so", "confidence": 90},
        {"match": "^hard", "text": "anything"},
    )

    assert (await gemini.ask("hard one", **MARK)).text == "[[confidence=20]]\nI guess so"
    assert (await gemini.ask("hard one", model=SENIOR, **MARK)).text == "[[confidence=90]]\nI know so"
    assert (await gemini.ask("hard one", **MARK)).text == "[[confidence=95]]\nanything"
    assert (await gemini.ask("easy one")).text.startswith("Scripted answer")


async def test_chunks_are_streamed_as_given_with_the_prefix_in_the_first(gemini: Caller) -> None:
    await gemini.script({"chunks": ["a", "b", "c"], "confidence": 3})

    events = (await gemini.stream("x", **MARK)).events

    texts = [event["candidates"][0]["content"]["parts"][0]["text"] for event in events]
    assert texts == ["[[confidence=3]]\na", "b", "c"]


async def test_a_prefix_may_be_split_garbled_or_absent(gemini: Caller) -> None:
    await gemini.script({"text": "yes", "chunk_chars": 1})
    split = (await gemini.stream("x", **MARK)).events
    await gemini.script({"text": "yes", "prefix": "[[confidence=9x]] [[confi"})
    garbled = await gemini.ask("x", **MARK)
    await gemini.script({"text": "yes", "confidence": None})
    absent = await gemini.ask("x", **MARK)

    texts = [event["candidates"][0]["content"]["parts"][0]["text"] for event in split]
    assert "".join(texts) == "[[confidence=95]]\nyes"
    assert {len(text) for text in texts} == {1}
    assert (garbled.text, absent.text) == ("[[confidence=9x]] [[confiyes", "yes")


async def test_confidence_may_cycle_or_be_drawn(gemini: Caller) -> None:
    await gemini.script({"text": "t", "confidence": [1, 99]})
    cycled = [(await gemini.ask("x", **MARK)).text for _ in range(3)]
    await gemini.script({"text": "t", "confidence": "random"})
    drawn = [(await gemini.ask(f"question {number}", **MARK)).text for number in range(20)]
    again = [(await gemini.ask(f"question {number}", **MARK)).text for number in range(20)]

    assert cycled == ["[[confidence=1]]\nt", "[[confidence=99]]\nt", "[[confidence=1]]\nt"]
    assert drawn == again
    assert len(set(drawn)) > 10


async def test_placeholders(gemini: Caller) -> None:
    await gemini.script({"text": "{model} {turns} {history} {calls} {last} {unknown} {digest}"})

    first, second = await gemini.ask("say {calls}"), await gemini.ask("say {calls}")

    assert first.text.startswith(f"{JUNIOR} 1 0 1 say {{calls}} {{unknown}} ")
    assert second.text.startswith(f"{JUNIOR} 1 0 2 ")


async def test_usage_finish_and_thoughts(gemini: Caller) -> None:
    await gemini.script(
        {
            "text": "t",
            "thoughts": "hm",
            "usage": {"prompt": 100, "cached": 60, "candidates": 5, "thoughts": 20},
            "finish_reason": "MAX_TOKENS",
        }
    )

    body = (await gemini.ask("x", generationConfig={"thinkingConfig": {"includeThoughts": True}})).json

    assert body["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert body["candidates"][0]["content"]["parts"] == [{"text": "hm", "thought": True}, {"text": "t"}]
    usage = body["usageMetadata"]
    assert usage.pop("promptTokensDetails")
    assert usage == {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 125,
    }


async def test_function_calls(gemini: Caller) -> None:
    await gemini.script({"match": "weather", "function_call": {"name": "weather", "args": {"city": "Recife"}}})

    answer = await gemini.ask("the weather?", tools=[{"functionDeclarations": [{"name": "weather"}]}])
    [event] = (await gemini.stream("the weather?")).events

    expected = [{"functionCall": {"name": "weather", "args": {"city": "Recife"}}}]
    assert answer.json["candidates"][0]["content"]["parts"] == expected
    assert event["candidates"][0]["content"]["parts"] == expected


async def test_delays(gemini: Caller) -> None:
    await gemini.script({"chunks": ["a", "b", "c"], "delay_seconds": 0.1, "chunk_delay_seconds": 0.1})
    loop = asyncio.get_running_loop()

    began = loop.time()
    await gemini.stream("x")

    assert 0.29 < loop.time() - began < 0.7


async def test_appended_rules_stand_in_front(gemini: Caller) -> None:
    await gemini.script({"text": "old"})
    await gemini.control("script", {"rules": [{"match": "new", "text": "new"}], "append": True})

    assert [(await gemini.ask("new")).text, (await gemini.ask("x")).text] == ["new", "old"]
    await gemini.control("reset", {"only": ["script"]})
    assert (await gemini.ask("new")).text.startswith("Scripted answer")


@pytest.mark.parametrize("rule", [{"match": "("}, {"txt": "x"}, {"text": "x", "times": 0}])
async def test_a_rule_that_does_not_fit_is_422(gemini: Caller, rule: dict[str, object]) -> None:
    assert (await gemini.post("/_emulator/script", {"rules": [rule]})).status == 422
