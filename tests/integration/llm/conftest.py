"""One emulator and one llm process for the tests of a module."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from devstack.process import wait_until_ready
from devstack.valkey import Valkey
from focus.llm.v1 import llm_pb2_grpc
from services.common.rpc.client import open_channel
from tests.integration.llm import fleet


@pytest.fixture(scope="module")
def shared_emulator() -> Iterator[fleet.Emulator]:
    with fleet.emulator() as running:
        yield running


@pytest.fixture
def emulator(shared_emulator: fleet.Emulator) -> fleet.Emulator:
    """The emulator without use, faults and rules of other tests."""
    shared_emulator.control("POST", "reset")
    return shared_emulator


@pytest.fixture(scope="module")
def quota_store(scratch: Path) -> Iterator[Valkey]:
    """A Valkey that all tests of a module use, and that forgets nothing between them."""
    server = Valkey("limits", scratch / f"quota-{secrets.token_hex(4)}", scratch / "log" / "quota.log")
    try:
        wait_until_ready([server.start()], timeout=30)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def llm_address(shared_emulator: fleet.Emulator, quota_store: Valkey) -> Iterator[str]:
    with fleet.llm(shared_emulator.url, {"FOCUS_LLM_VALKEY_URL": quota_store.url}) as (_, address):
        yield address


@pytest_asyncio.fixture
async def channel(llm_address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(llm_address) as opened:
        yield opened


@pytest_asyncio.fixture
async def stub(channel: grpc.aio.Channel) -> llm_pb2_grpc.LlmServiceAsyncStub:
    return llm_pb2_grpc.LlmServiceStub(channel)
