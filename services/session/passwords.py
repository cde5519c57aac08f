"""Passwords as Argon2id digests (RFC 9106), computed beside the event loop.

The costs follow OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane. A
digest takes some 20 ms of a core, so few threads compute them and few callers may wait:
a storm of sign-ins is told to come again instead of starving the turns.
"""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import Exhausted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one digest takes; old digests are renewed at sign-in when this changes."""

    memory_kib: int = 19 * 1024
    passes: int = 2
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the password is right and, if the cost has changed since, its new digest."""

    right: bool
    renewed: str | None = None


class Passwords:
    """Makes and checks digests in `pool`, with at most `waiting` callers in it and before it."""

    def __init__(self, cost: Cost, pool: ThreadPoolExecutor, waiting: int) -> None:
        self._hasher = PasswordHasher(cost.passes, cost.memory_kib, cost.lanes)
        self._pool = pool
        self._room = waiting
        # Checked when there is no such person, so that the answer takes as long as for a wrong password.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(32))

    async def digest(self, password: str) -> str:
        """A digest with a salt of its own. Raises Exhausted (OVERLOADED)."""
        return await self._run(lambda: self._hasher.hash(normalise(password)))

    async def check(self, stored: str | None, password: str) -> Verdict:
        """Whether `stored` is the password's digest; None takes as long and is never right.

        Raises Exhausted (OVERLOADED).
        """

        def check() -> Verdict:
            text = normalise(password)
            try:
                self._hasher.verify(stored if stored is not None else self._nobody, text)
            except (VerificationError, InvalidHashError):
                return Verdict(right=False)
            if stored is None:
                return Verdict(right=False)
            renew = self._hasher.check_needs_rehash(stored)
            return Verdict(right=True, renewed=self._hasher.hash(text) if renew else None)

        return await self._run(check)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._room <= 0:
            raise Exhausted(
                "Too many people are signing in right now; try again in a moment.",
                ErrorReason.ERROR_REASON_OVERLOADED,
                retry_after=1.0,
            )
        self._room -= 1
        try:
            # A caller that leaves while it waits takes its work out of the queue.
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._room += 1


@asynccontextmanager
async def pooled(cost: Cost, *, threads: int, waiting: int) -> AsyncIterator[Passwords]:
    """Passwords with a pool of their own, for as long as the context is open."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
    try:
        yield Passwords(cost, pool, waiting)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def normalise(password: str) -> str:
    """One spelling for what looks the same on two keyboards (NIST SP 800-63B section 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
