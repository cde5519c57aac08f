"""How a process starts and ends, seen from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SERVICE = """
import asyncio, sys
from contextlib import AsyncExitStack, asynccontextmanager
from services.common import lifecycle
from services.common.settings import ServiceSettings

def say(text):
    print(text, flush=True)

@asynccontextmanager
async def part(name, fail=False, slow=False):
    if fail:
        raise SystemExit(f"{name} cannot be opened")
    say(f"open {name}")
    try:
        yield
    finally:
        if slow:
            say("closing slowly")
            await asyncio.sleep(60)
        say(f"close {name}")

@asynccontextmanager
async def app():
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(part("store", slow="slow" in sys.argv))
        await stack.enter_async_context(part("server", fail="fail" in sys.argv))
        say("ready")
        yield

lifecycle.run("test", ServiceSettings(), app)
"""


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def read_until(running: subprocess.Popen[str], line: str) -> None:
    assert running.stdout is not None
    for found in running.stdout:
        if found.strip() == line:
            return
    pytest.fail(f"the process ended before it said {line!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_everything_in_reverse_order_and_ends_well(number: signal.Signals) -> None:
    with process() as running:
        read_until(running, "ready")
        running.send_signal(number)
        said, complaints = running.communicate(timeout=30)
    assert (said.splitlines(), running.returncode, complaints) == (["close server", "close store"], 0, "")


def test_what_was_opened_is_closed_when_the_start_fails_half_way() -> None:
    with process("fail") as running:
        said, complaints = running.communicate(timeout=30)
    assert said.splitlines() == ["open store", "close store"]
    assert (complaints, running.returncode) == ("server cannot be opened\n", 1)


def test_a_second_signal_ends_the_process_at_once() -> None:
    with process("slow") as running:
        read_until(running, "ready")
        running.send_signal(signal.SIGTERM)
        read_until(running, "closing slowly")
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGTERM
