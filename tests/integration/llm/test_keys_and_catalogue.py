"""Keys and catalogue change while questions are answered; a key's text gets out nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from devstack.ports import Port
from focus.chat.v1 import chat_pb2
from focus.llm.v1 import llm_pb2, llm_pb2_grpc
from services.common.rpc.client import open_channel
from tests.integration.llm import fleet, load
from tests.integration.llm.asking import complete, generate, prompt


def swap(directory: Path, generation: int, keys: dict[str, str]) -> None:
    """Changes the keys as a mounted Secret changes: a new folder, and the `..data` link swapped."""
    folder = directory / f"..{generation}"
    folder.mkdir()
    for name, text in keys.items():
        (folder / name).write_text(text)
    link = directory / "..next"
    link.symlink_to(folder.name)
    link.replace(directory / "..data")
    for name in keys:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for entry in directory.iterdir():
        if not entry.name.startswith(".") and entry.name not in keys:
            entry.unlink()


def metrics_of(address: str) -> str:
    with urlopen(f"http://{address}/metrics", timeout=5) as response:
        text: str = response.read().decode()
    return text


async def eventually(condition: Callable[[], Awaitable[bool]], *, seconds: float = 15) -> None:
    for _ in range(int(seconds / 0.05)):
        if await condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("did not happen in time")


async def test_keys_are_rotated_under_load_without_a_failure(tmp_path: Path) -> None:
    """New key in, old key out of the directory, and only then withdrawn at the provider."""
    keys = tmp_path / "keys"
    keys.mkdir()
    swap(keys, 1, {"demo.a": "old-key"})
    with (
        fleet.emulator(keys={"demo": ["old-key", "new-key"]}) as emulator,
        fleet.llm(emulator.url, {"GEMINI_API_KEY": "", "FOCUS_LLM_KEYS_DIR": str(keys)}) as (_, address),
    ):
        async with open_channel(address) as channel:
            stub: llm_pb2_grpc.LlmServiceAsyncStub = llm_pb2_grpc.LlmServiceStub(channel)

            async def labels() -> list[str]:
                return [key.label for key in (await stub.ListKeys(llm_pb2.ListKeysRequest())).keys]

            asking = asyncio.create_task(load.offer(lambda: [address], per_second=10, seconds=6, patience=20))
            swap(keys, 2, {"demo.a": "old-key", "demo.b": "new-key"})

            async def both() -> bool:
                return await labels() == ["a", "b"]

            await eventually(both)
            swap(keys, 3, {"demo.b": "new-key"})

            async def new_only() -> bool:
                return await labels() == ["b"]

            await eventually(new_only)
            # Calls that have the old key are given the time of a call.
            await asyncio.sleep(1)
            emulator.control("POST", "keys", {"remove": ["old-key"]})
            fared = await asking
        statuses = emulator.stats()["models"][0]["statuses"]
    assert set(fared.outcomes) == {"ok"}
    assert set(statuses) == {"200"}


async def test_a_planted_key_appears_in_no_log_error_metric_or_answer(tmp_path: Path) -> None:
    """Whatever goes wrong: refused, unreachable, cut, malformed."""
    canary = "canary-7f3a9e51c2d84b06"
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "demo.a").write_text(canary)
    port = Port()
    seen = []
    with fleet.emulator(keys={"demo": [canary]}) as emulator:
        environment = {
            "GEMINI_API_KEY": canary + "-environment",
            "FOCUS_LLM_KEYS_DIR": str(keys),
            "FOCUS_LLM_LOG_LEVEL": "debug",
            "FOCUS_LLM_METRICS_LISTEN": port.address,
            "FOCUS_LLM_FIRST_TOKEN_SECONDS": "1",
        }
        with fleet.llm(emulator.url, environment) as (child, address):
            async with open_channel(address) as channel:
                stub: llm_pb2_grpc.LlmServiceAsyncStub = llm_pb2_grpc.LlmServiceStub(channel)
                for effect in (
                    {},
                    {"status": 403},
                    {"status": 429},
                    {"status": 500},
                    {"malformed_sse": "garbage"},
                    {"cut_after_chunks": 0, "cut": "reset"},
                ):
                    emulator.control("POST", "faults", {"faults": [{"effect": effect, "count": 1}] if effect else []})
                    try:
                        seen.append(str(await generate(stub, "Hello?", timeout=5)))
                    except Exception as err:
                        seen.append(str(err))
                seen.append(str(await stub.ListKeys(llm_pb2.ListKeysRequest())))
                seen.append(str(await stub.ShowQuota(llm_pb2.ShowQuotaRequest())))
            seen.append(await asyncio.to_thread(metrics_of, port.address))
            seen.append(child.log)
    port.close()
    assert "focus_llm_calls" in seen[-2]
    assert "canary" not in "".join(seen)


async def test_a_changed_catalogue_is_taken_over_and_a_faulty_one_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    good = load.catalogue("{rpm: 600}")
    path.write_text(good)
    with (
        fleet.emulator() as emulator,
        fleet.llm(emulator.url, {"FOCUS_LLM_CATALOGUE": str(path)}) as (child, address),
    ):
        async with open_channel(address) as channel:
            stub: llm_pb2_grpc.LlmServiceAsyncStub = llm_pb2_grpc.LlmServiceStub(channel)
            path.write_text(good.replace("rpm: 600", "rpm: lots"))
            await asyncio.to_thread(child.wait_for, "catalogue refused, the old one stays")
            line = next(i for i, text in enumerate(good.splitlines(), 1) if "rpm: 600" in text)
            refused = child.wait_for("catalogue refused, the old one stays")["faults"]
            assert f"catalogue.yaml:{line}: " in refused[0]
            assert (await complete(stub, "Still there?")).text
            path.write_text(good.replace("rpm: 600", "rpm: 900"))
            await asyncio.to_thread(child.wait_for, "catalogue taken over")
            shown = await stub.ShowQuota(llm_pb2.ShowQuotaRequest())
            assert {pool.calls_limit for pool in shown.pools} == {900}


@pytest.mark.parametrize(
    "environment", [{"FOCUS_LLM_CATALOGUE": "/nowhere/catalogue.yaml"}, {"FOCUS_LLM_KEYS_DIR": "/nowhere"}]
)
def test_a_start_that_cannot_succeed_ends_with_a_sentence(environment: dict[str, str]) -> None:
    child = fleet.start_llm("http://127.0.0.1:9", environment)
    try:
        assert child.process.wait(20) != 0
        assert next(iter(environment)) in child.log
        assert "Traceback" not in child.log
    finally:
        child.stop()


async def test_the_mode_without_any_key_says_so(tmp_path: Path) -> None:
    with fleet.llm("http://127.0.0.1:9", {"GEMINI_API_KEY": ""}) as (_, address):
        async with open_channel(address) as channel:
            stub: llm_pb2_grpc.LlmServiceAsyncStub = llm_pb2_grpc.LlmServiceStub(channel)
            with pytest.raises(Exception, match="No usable provider key"):
                await complete(stub, prompt("Why?", mode=chat_pb2.MODE_SENIOR))
