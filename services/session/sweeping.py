"""What happens by itself: expired things go, new turns become searchable, calls are booked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from services.common import logs
from services.common.errors import FocusError

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows of each kind went."""

    keys: int = 0
    conversations: int = 0
    holders: int = 0
    places: int = 0
    families: int = 0


class Upkeep(Protocol):
    """Small steps that any process may take at any time; two at once do no harm."""

    async def sweep(self) -> Swept:
        """Removes some of what has expired: keys, deleted and outdated conversations, holders, places,
        families of refresh tokens."""

    async def index(self) -> int:
        """Makes some new turns searchable; says how many."""


@asynccontextmanager
async def running(upkeep: Upkeep, *, sweep_seconds: float, index_seconds: float) -> AsyncIterator[None]:
    """Takes both steps again and again for as long as the block runs."""
    async with repeating(upkeep.index, index_seconds), repeating(lambda: _sweep(upkeep), sweep_seconds):
        yield


@asynccontextmanager
async def repeating(step: Callable[[], Awaitable[int]], seconds: float) -> AsyncIterator[None]:
    """Takes a step about every `seconds`, and at once again after one that did a hundred things or more.

    A step that fails is taken again at its time.
    """
    task = asyncio.create_task(_repeat(step, seconds))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep(upkeep: Upkeep) -> int:
    swept = await upkeep.sweep()
    total = swept.keys + swept.conversations + swept.holders + swept.places + swept.families
    if total:
        log.info(
            "swept",
            keys=swept.keys,
            conversations=swept.conversations,
            holders=swept.holders,
            families=swept.families,
        )
    return swept.keys + swept.conversations + swept.families


async def _repeat(step: Callable[[], Awaitable[int]], seconds: float) -> None:
    while True:
        done = 0
        try:
            done = await step()
        except FocusError as err:
            log.info("upkeep was put off", reason=err.reason_name)
        except Exception:
            log.exception("upkeep failed by a defect")
        await asyncio.sleep(0.05 if done >= 100 else seconds * random.uniform(0.7, 1.3))  # noqa: S311
