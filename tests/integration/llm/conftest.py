"""One emulator and one llm process for the tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
import pytest_asyncio

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
def llm_address(shared_emulator: fleet.Emulator) -> Iterator[str]:
    with fleet.llm(shared_emulator.url) as (_, address):
        yield address


@pytest_asyncio.fixture
async def channel(llm_address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(llm_address) as opened:
        yield opened


@pytest_asyncio.fixture
async def stub(channel: grpc.aio.Channel) -> llm_pb2_grpc.LlmServiceAsyncStub:
    return llm_pb2_grpc.LlmServiceStub(channel)
