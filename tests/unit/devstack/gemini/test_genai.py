"""Google's own client talks to the emulator as it talks to Google."""

import pytest

from tests.unit.devstack.gemini.caller import JUNIOR, SENIOR, Caller

genai = pytest.importorskip("google.genai")


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_google_genai_asks_streams_counts_and_lists(gemini: Caller, version: str) -> None:
    client = genai.Client(api_key="key-a1", http_options={"base_url": gemini.url, "api_version": version})
    config = {"system_instruction": "Begin with [[confidence=NN]]", "temperature": 0.2, "max_output_tokens": 99}

    answer = await client.aio.models.generate_content(
        model=JUNIOR, contents="What is the capital of Brazil?", config=config
    )
    stream = await client.aio.models.generate_content_stream(model=SENIOR, contents="Tell me a story, a long one.")
    chunks = [chunk async for chunk in stream]
    counted = await client.aio.models.count_tokens(model=JUNIOR, contents="What is the capital of Brazil?")
    listed = [model.name async for model in await client.aio.models.list()]

    assert answer.text == "[[confidence=95]]\nThe capital of Brazil is Brasilia."
    assert answer.usage_metadata.total_token_count == answer.usage_metadata.prompt_token_count + 13
    assert len(chunks) > 1
    assert chunks[-1].candidates[0].finish_reason == "STOP"
    assert chunks[-1].usage_metadata.candidates_token_count > 0
    assert counted.total_tokens == 8
    assert f"models/{JUNIOR}" in listed


async def test_google_genai_understands_the_errors(gemini: Caller) -> None:
    client = genai.Client(api_key="key-a1", http_options={"base_url": gemini.url, "api_version": "v1beta"})
    await gemini.control("limits", {"limits": {"*": {"*": {"rpm": 0}}}})

    with pytest.raises(genai.errors.ClientError) as refused:
        await client.aio.models.generate_content(model=JUNIOR, contents="x")
    await gemini.control("limits", {"limits": {}})
    await gemini.fault({"status": 503})
    with pytest.raises(genai.errors.ServerError) as overloaded:
        await client.aio.models.generate_content(model=JUNIOR, contents="x")

    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert (overloaded.value.code, overloaded.value.status) == (503, "UNAVAILABLE")
