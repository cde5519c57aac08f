"""The emulator as a process: what it prints, how it ends, and what a wrong setting says."""

import asyncio
import json
import os
import signal
import sys

import aiohttp

from tests.unit.devstack.gemini.caller import JUNIOR, question


async def launch(**settings: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOCUS_GEMINI_")}
    environment |= {f"FOCUS_GEMINI_{name.upper()}": value for name, value in settings.items()}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devstack.gemini",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )


async def test_it_says_where_it_listens_and_ends_on_a_signal_without_naming_a_key() -> None:
    process = await launch(backend="scripted", keys='{"p": ["canary-key"]}')
    assert process.stdout is not None
    assert process.stderr is not None

    url = json.loads(await process.stdout.readline())["url"]
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1beta/models/{JUNIOR}:generateContent?key=canary-key", json=question("x")) as response,
    ):
        assert response.status == 200
    process.send_signal(signal.SIGTERM)
    log = (await process.stderr.read()).decode()

    assert await process.wait() == 0
    assert [json.loads(line)["level"] for line in log.splitlines()] == ["info"]
    assert "canary-key" not in log


async def test_a_wrong_setting_gets_a_sentence() -> None:
    process = await launch(backend="scripted", window_seconds="0")

    _, log = await process.communicate()

    assert process.returncode == 2
    assert log.decode() == "FOCUS_GEMINI_WINDOW_SECONDS: Input should be greater than 0\n"


async def test_a_port_in_use_gets_a_sentence() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await launch(backend="scripted", port=str(port))
        _, log = await process.communicate()

    assert process.returncode == 1
    assert "the Gemini emulator cannot run" in log.decode()
    assert "Traceback" not in log.decode()
