"""A provider that is slow, cuts, lies or refuses: what callers see, and what is not sent."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from focus.chat.v1 import chat_pb2
from focus.llm.v1 import llm_pb2, llm_pb2_grpc
from services.common.errors import FocusError
from services.common.rpc import status
from services.common.rpc.client import open_channel
from tests.integration.llm import fleet, load
from tests.integration.llm.asking import Stub, complete, generate, prompt

SENIOR = chat_pb2.MODE_SENIOR


@pytest.fixture(scope="module")
def own_emulator() -> Iterator[fleet.Emulator]:
    with fleet.emulator(keys={"one": ["key-one"], "two": ["key-two"]}) as running:
        yield running


@pytest_asyncio.fixture
async def emulator(own_emulator: fleet.Emulator) -> fleet.Emulator:
    own_emulator.control("POST", "reset")
    return own_emulator


@pytest.fixture
def service(emulator: fleet.Emulator, tmp_path: Path) -> Iterator[tuple[fleet.Child, str]]:
    """A process of its own for every test, for circuits and cool-downs last."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "one.a").write_text("key-one\n")
    (keys / "two.a").write_text("key-two\n")
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(load.catalogue("{rpm: 6000}"))
    environment = {
        "GEMINI_API_KEY": "",
        "FOCUS_LLM_KEYS_DIR": str(keys),
        "FOCUS_LLM_CATALOGUE": str(catalogue),
        "FOCUS_LLM_FIRST_TOKEN_SECONDS": "1",
        "FOCUS_LLM_BETWEEN_TOKENS_SECONDS": "1",
    }
    with fleet.llm(emulator.url, environment) as found:
        yield found


@pytest_asyncio.fixture
async def stub(service: tuple[fleet.Child, str]) -> AsyncIterator[Stub]:
    async with open_channel(service[1]) as channel:
        yield llm_pb2_grpc.LlmServiceStub(channel)


def fault(emulator: fleet.Emulator, effect: dict[str, Any], **whom: Any) -> None:
    emulator.control("POST", "faults", {"faults": [{"effect": effect, **whom}]})


async def failure(stub: Stub, *, streamed: bool = True, timeout: float = 20) -> FocusError:
    """What the caller is told."""
    asked = prompt("Why?", mode=SENIOR)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (generate if streamed else complete)(stub, asked, timeout=timeout)
    return status.from_rpc_error(caught.value)


@pytest.mark.parametrize("code", [500, 503, 504])
async def test_5xx_is_answered_by_another_project(emulator: fleet.Emulator, stub: Stub, code: int) -> None:
    fault(emulator, {"status": code}, project="one")
    for _ in range(4):
        answer = await complete(stub, prompt("Why?", mode=SENIOR))
        assert answer.text
    # Costs of the failed calls are not billed, they gave nothing.
    assert all(entry["completed"] == 4 for entry in emulator.stats()["models"] if entry["project"] == "two")


async def test_retries_of_a_failing_provider_are_few(emulator: fleet.Emulator, stub: Stub) -> None:
    """At most a fifth more calls than questions, and a few."""
    fault(emulator, {"status": 503})
    questions = 60
    for _ in range(questions):
        assert (await failure(stub, streamed=False)).reason_name == "PROVIDER_UNAVAILABLE"
    assert emulator.stats()["arrivals"] <= 1.2 * questions + 3


async def test_a_429_waits_elsewhere_and_a_days_limit_is_not_asked_again(emulator: fleet.Emulator, stub: Stub) -> None:
    fault(emulator, {"status": 429, "quota": "rpd"}, project="one")
    for _ in range(6):
        assert (await complete(stub, prompt("Why?", mode=SENIOR))).text
    arrivals = {entry["project"]: entry["arrivals"] for entry in emulator.stats()["models"]}
    assert arrivals == {"one": 1, "two": 6}


async def test_a_minutes_limit_never_becomes_a_lock_out_of_hours(emulator: fleet.Emulator, stub: Stub) -> None:
    """Although the provider says `86400s`."""
    fault(emulator, {"status": 429, "quota": "rpm", "retry_info": "86400s"}, count=2)
    told = await failure(stub, timeout=3)
    assert told.reason_name == "QUOTA_EXHAUSTED"
    assert told.retry_after is not None
    assert 0 < told.retry_after < 120
    shown = await stub.ShowQuota(llm_pb2.ShowQuotaRequest())
    assert 0 < max(pool.cool_down_ms for pool in shown.pools) <= 61_000


@pytest.mark.parametrize("effect", [{"hang": True}, {"first_byte_delay": 30}])
async def test_a_silent_provider_is_given_up(emulator: fleet.Emulator, stub: Stub, effect: dict[str, Any]) -> None:
    fault(emulator, effect)
    began = time.monotonic()
    assert (await failure(stub)).reason_name in {"PROVIDER_UNAVAILABLE", "PROVIDER_STREAM_BROKEN"}
    assert time.monotonic() - began < 18


@pytest.mark.parametrize(
    "effect",
    [
        {"cut_after_chunks": 1, "cut": "reset"},
        {"cut_after_chunks": 1, "cut": "close"},
        {"cut_after_chunks": 1, "cut": "eof"},
        {"hang_after_chunks": 1},
        {"malformed_sse": "broken_json"},
        {"malformed_sse": "garbage"},
        {"status": 503, "error_after_chunks": 1},
    ],
)
async def test_a_stream_that_breaks_is_not_begun_again(
    emulator: fleet.Emulator, stub: Stub, effect: dict[str, Any]
) -> None:
    """After the first delta the caller is told, and nothing is asked twice."""
    emulator.control("POST", "script", {"rules": [{"chunks": ["One ", "two ", "three."]}]})
    fault(emulator, effect, count=1)
    deltas = []
    reason = ""
    request = llm_pb2.GenerateRequest(prompt=prompt("Count.", mode=SENIOR))
    try:
        async for response in stub.Generate(request, timeout=20):
            deltas += [response.delta.text]
    except grpc.aio.AioRpcError as err:
        reason = status.from_rpc_error(err).reason_name
    if reason:
        assert reason in {"PROVIDER_STREAM_BROKEN", "PROVIDER_UNAVAILABLE"}
        assert "".join(deltas) in {"", "One "}
        assert emulator.stats()["arrivals"] == 1
    else:
        # It broke before anything was shown, so it could be asked again.
        assert "".join(deltas) == "One two three."
        assert emulator.stats()["arrivals"] == 2


@pytest.mark.parametrize("unusual", ["byte_by_byte", "lf"])
async def test_unusual_but_valid_streams_are_read(emulator: fleet.Emulator, stub: Stub, unusual: str) -> None:
    fault(emulator, {"malformed_sse": unusual})
    assert (await generate(stub, "What is the capital of Brazil?")).text == "The capital of Brazil is Brasilia."


@pytest.mark.parametrize(
    "usage", ["missing", {"prompt": 0, "candidates": 0, "total": 0}, {"prompt": 5, "cached": 10_000, "candidates": 1}]
)
async def test_wrong_usage_does_not_make_wrong_money(emulator: fleet.Emulator, stub: Stub, usage: Any) -> None:
    fault(emulator, {"usage": usage})
    answer = await complete(stub, prompt("Why?", mode=SENIOR))
    assert answer.text
    assert answer.usage.cached_tokens <= answer.usage.prompt_tokens
    assert answer.cost_microusd >= 0


async def test_a_malformed_request_is_the_callers_fault_and_is_not_tried_again(
    emulator: fleet.Emulator, stub: Stub
) -> None:
    asked = prompt("Why?", mode=SENIOR)
    asked.messages[0].parts.add().tool_call.name = "x"
    asked.max_output_tokens = 10_000_000
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await complete(stub, asked)
    assert status.from_rpc_error(caught.value).reason_name == "PROVIDER_REJECTED"
    assert emulator.stats()["arrivals"] == 1


async def test_a_bad_key_costs_one_call_and_is_shown_by_its_fingerprint(
    emulator: fleet.Emulator, service: tuple[fleet.Child, str], stub: Stub
) -> None:
    emulator.control("POST", "keys", {"leaked": ["key-one"]})
    try:
        for _ in range(6):
            assert (await complete(stub, prompt("Why?", mode=SENIOR))).text
    finally:
        emulator.control("POST", "keys", {"healthy": ["key-one"]})
    refused = [entry for entry in emulator.stats()["models"] if "403" in entry["statuses"]]
    assert sum(entry["statuses"]["403"] for entry in refused) <= 1
    keys = (await stub.ListKeys(llm_pb2.ListKeysRequest())).keys
    assert [key.quarantined_ms > 0 for key in keys] == [True, False]
    assert "key-one" not in str(keys)
    assert "key-one" not in service[0].log
    assert keys[0].fingerprint in service[0].log


async def test_without_a_usable_key_the_operator_is_told(emulator: fleet.Emulator, stub: Stub) -> None:
    emulator.control("POST", "keys", {"leaked": ["key-one", "key-two"]})
    try:
        assert (await failure(stub)).reason_name == "PROVIDER_KEY_INVALID"
        calls = emulator.stats()["arrivals"]
        assert (await failure(stub)).reason_name == "PROVIDER_KEY_INVALID"
        assert emulator.stats()["arrivals"] == calls
    finally:
        emulator.control("POST", "keys", {"healthy": ["key-one", "key-two"]})


async def test_a_circuit_opens_and_is_shown(emulator: fleet.Emulator, stub: Stub) -> None:
    fault(emulator, {"status": 503}, project="one")
    for _ in range(40):
        await complete(stub, prompt("Why?", mode=SENIOR))
    shown = await stub.ShowQuota(llm_pb2.ShowQuotaRequest())
    assert [(circuit.project, circuit.failures >= 3) for circuit in shown.circuits] == [("one", True)]


async def test_tools_schema_and_images_reach_the_provider(emulator: fleet.Emulator, stub: Stub) -> None:
    emulator.control(
        "POST",
        "script",
        {"rules": [{"match": "weather", "function_call": {"name": "weather", "args": {"city": "Brasilia"}}}]},
    )
    asked = prompt("What is the weather?", mode=SENIOR)
    asked.messages[0].parts.add().media.CopyFrom(chat_pb2.Media(mime_type="image/png", data=b"\x89PNG"))
    asked.tools.add(name="weather", description="Tells it.", parameters_json_schema='{"type": "object"}')
    asked.thinking_budget = 0
    asked.safety_settings.add(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_ONLY_HIGH")
    answer = await complete(stub, asked)
    assert [(call.name, json.loads(call.arguments_json)) for call in answer.tool_calls] == [
        ("weather", {"city": "Brasilia"})
    ]
    asked = prompt("Which city?", mode=chat_pb2.MODE_JUNIOR)
    asked.response_json_schema = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
    assert "city" in json.loads((await complete(stub, asked)).text)
