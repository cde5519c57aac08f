"""One question through the llm process and the Gemini emulator, as the gateway asks it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from focus.chat.v1 import chat_pb2
from focus.llm.v1 import llm_pb2
from services.common.rpc import status
from tests.integration.llm import fleet
from tests.integration.llm.asking import Stub, complete, generate, principal, prompt


def totals(emulator: fleet.Emulator) -> dict[str, dict[str, int]]:
    return {entry["model"]: entry for entry in emulator.stats()["models"]}


async def test_a_sure_junior_answers_and_the_prefix_is_not_shown(emulator: fleet.Emulator, stub: Stub) -> None:
    told = await generate(stub, "What is the capital of Brazil?")
    assert told.text == "The capital of Brazil is Brasilia."
    assert told.order[-1] == "finished"
    assert "escalated" not in told.order
    answer = told.answer
    assert (answer.text, answer.tier, answer.model) == ("", chat_pb2.TIER_JUNIOR, "gemini-3.5-flash-lite")
    assert answer.confidence == pytest.approx(0.95)
    assert answer.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert not answer.escalated
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.output_tokens > 0
    # 0.30 USD in and 2.50 USD out for a million tokens.
    expected = (answer.usage.prompt_tokens * 300_000 + answer.usage.output_tokens * 2_500_000 + 500_000) // 1_000_000
    assert answer.cost_microusd == expected


async def test_an_unsure_junior_gives_way_to_the_senior_before_anything_is_shown(
    emulator: fleet.Emulator, stub: Stub
) -> None:
    told = await generate(stub, "Why? confidence=20")
    assert told.order[0] == "escalated"
    assert told.escalated is not None
    assert told.escalated.confidence == pytest.approx(0.2)
    assert told.escalated.threshold == pytest.approx(0.6)
    assert told.escalated.model == told.answer.model == "gemini-3.1-pro-preview"
    assert told.answer.tier == chat_pb2.TIER_SENIOR
    assert told.answer.escalated
    assert "confidence" not in told.text.replace("confidence=20", "")
    used = totals(emulator)
    assert used["gemini-3.5-flash-lite"]["admitted"] == used["gemini-3.1-pro-preview"]["admitted"] == 1


async def test_usage_and_cost_are_summed_over_both_calls(emulator: fleet.Emulator, stub: Stub) -> None:
    """Thoughts count as output and cached tokens are part of the input."""
    emulator.control(
        "POST",
        "script",
        {
            "rules": [
                {"model": "*lite*", "text": "x", "confidence": 10, "usage": {"prompt": 1000, "candidates": 10}},
                {
                    "model": "*pro*",
                    "text": "y",
                    "usage": {"prompt": 1000, "cached": 400, "candidates": 20, "thoughts": 30},
                },
            ]
        },
    )
    answer = (await generate(stub, "Why?")).answer
    assert answer.usage == chat_pb2.Usage(prompt_tokens=2000, cached_tokens=400, output_tokens=30, thought_tokens=30)
    assert answer.cost_microusd == (300 + 25) + (600 * 2 + 80 + 50 * 12)


async def test_modes_choose_the_tier(emulator: fleet.Emulator, stub: Stub) -> None:
    junior = await generate(stub, prompt("Why? confidence=1", mode=chat_pb2.MODE_JUNIOR))
    senior = await generate(stub, prompt("Why?", mode=chat_pb2.MODE_SENIOR))
    assert junior.answer.tier == chat_pb2.TIER_JUNIOR
    assert senior.answer.tier == chat_pb2.TIER_SENIOR
    assert not senior.answer.escalated


@pytest.mark.parametrize("question", ["What is the capital of Brazil?", "Why? confidence=20"])
async def test_complete_gives_the_same_answer_in_one_piece(emulator: fleet.Emulator, stub: Stub, question: str) -> None:
    # A stream that escalates ends the junior's call at once, so its usage would depend on how far that one got.
    emulator.control("POST", "script", {"rules": [{"match": "Why", "usage": {"prompt": 50, "candidates": 10}}]})
    streamed = await generate(stub, question)
    answer = await complete(stub, question)
    assert answer.text == streamed.text
    streamed.answer.text = answer.text
    assert answer == streamed.answer


@pytest.mark.parametrize(
    ("prefix", "shown_tier"),
    [
        ("[[Confidence: 88%]]\n\n", chat_pb2.TIER_JUNIOR),
        ("[[confidence=90]]\n[[confidence=90]]\n", chat_pb2.TIER_JUNIOR),
        ("[[confidence=very high]]\n", chat_pb2.TIER_SENIOR),
        ("", chat_pb2.TIER_SENIOR),
    ],
)
async def test_a_garbled_prefix_is_never_shown(
    emulator: fleet.Emulator, stub: Stub, prefix: str, shown_tier: int
) -> None:
    """One that states nothing counts as not sure."""
    emulator.control(
        "POST",
        "script",
        {"rules": [{"model": "*lite*", "text": "Brasilia it is.", "prefix": prefix, "chunk_chars": 1}]},
    )
    told = await generate(stub, "Which?")
    assert told.answer.tier == shown_tier
    if shown_tier == chat_pb2.TIER_JUNIOR:
        assert told.text == "Brasilia it is."


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("MAX_TOKENS", chat_pb2.FINISH_REASON_MAX_TOKENS),
        ("SAFETY", chat_pb2.FINISH_REASON_SAFETY),
        ("RECITATION", chat_pb2.FINISH_REASON_RECITATION),
        ("SPII", chat_pb2.FINISH_REASON_PROHIBITED),
        ("LANGUAGE", chat_pb2.FINISH_REASON_LANGUAGE),
        ("MALFORMED_FUNCTION_CALL", chat_pb2.FINISH_REASON_MALFORMED_TOOL_CALL),
        ("SOMETHING_NEW", chat_pb2.FINISH_REASON_OTHER),
    ],
)
async def test_every_finish_reason_is_an_outcome_of_its_own(
    emulator: fleet.Emulator, stub: Stub, given: str, expected: int
) -> None:
    emulator.control("POST", "faults", {"faults": [{"effect": {"finish_reason": given}}]})
    asked = prompt("Why?", mode=chat_pb2.MODE_SENIOR)
    assert (await generate(stub, asked)).answer.finish_reason == expected
    assert (await complete(stub, asked)).finish_reason == expected


async def test_a_refused_prompt_is_an_outcome_too(emulator: fleet.Emulator, stub: Stub) -> None:
    emulator.control("POST", "faults", {"faults": [{"effect": {"block_reason": "SAFETY"}}]})
    told = await generate(stub, prompt("Why?", mode=chat_pb2.MODE_SENIOR))
    assert told.answer.finish_reason == chat_pb2.FINISH_REASON_SAFETY
    assert told.text == ""


async def test_deltas_come_while_the_model_still_writes(emulator: fleet.Emulator, stub: Stub) -> None:
    """The first delta is there although the model never ends."""
    emulator.control("POST", "script", {"rules": [{"chunks": ["One ", "two ", "three."]}]})
    emulator.control("POST", "faults", {"faults": [{"effect": {"hang_after_chunks": 2}}]})
    call = stub.Generate(llm_pb2.GenerateRequest(principal=principal(), prompt=prompt("Count.")), timeout=20)
    seen = ""
    async for response in call:
        seen += response.delta.text
        if seen == "One two ":
            break
    assert seen == "One two "
    call.cancel()


async def test_cancelling_the_call_stops_the_provider(emulator: fleet.Emulator, stub: Stub) -> None:
    emulator.control("POST", "script", {"rules": [{"chunks": ["One ", "two ", "three."]}]})
    emulator.control("POST", "faults", {"faults": [{"effect": {"chunk_delay": 30}}]})
    call = stub.Generate(llm_pb2.GenerateRequest(principal=principal(), prompt=prompt("Count.")), timeout=60)
    await call.read()
    assert emulator.stats()["in_flight"] == 1
    call.cancel()
    for _ in range(200):
        stats = emulator.stats()
        if stats["in_flight"] == 0:
            break
        await asyncio.sleep(0.02)
    assert (stats["in_flight"], stats["cancelled"]) == (0, 1)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (llm_pb2.Prompt(), "messages"),
        (llm_pb2.Prompt(messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER)]), "messages[0].parts"),
        (llm_pb2.Prompt(messages=[chat_pb2.Message(parts=[chat_pb2.Part(text="x")])]), "messages[0].role"),
    ],
)
async def test_a_malformed_prompt_is_refused_with_the_fields_name(
    emulator: fleet.Emulator, stub: Stub, asked: llm_pb2.Prompt, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await complete(stub, asked)
    err = status.from_rpc_error(caught.value)
    assert err.reason_name == "INVALID_ARGUMENT"
    assert err.metadata["field"] == field
    assert emulator.stats()["arrivals"] == 0
