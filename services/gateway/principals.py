"""From an Authorization header to the principal of a request.

An access token is verified here and now. An API key is exchanged for an access token
once, and that token is kept for its life, so that callers with a key are served while
the store of people is away (design, Failures) and one exchange serves 180 s of
requests. A revoked key therefore works for at most 180 s more.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import logs
from services.common.errors import Cancelled, DeadlineExceeded, FocusError, Unauthenticated, Unavailable
from services.gateway.tokens import Principal, TokenVerifier

log = logs.get(__name__)

# `fk_` and 256 random bits.
_API_KEY = re.compile(r"fk_[A-Za-z0-9_-]{43}")
_BEARER = re.compile(r"bearer +([^\s]+) *", re.IGNORECASE)

_KEPT_KEYS = 10_000
# Unknown keys are remembered apart, so that a flood of them cannot push out good ones.
_KEPT_REFUSALS = 1_000
_REFUSAL_SECONDS = 5.0
# A store that is away is asked once a second for each key, not once a request.
_FAILURE_SECONDS = 1.0
# A key that is used in the last third of its token's life gets a new token beforehand.
_REFRESH_SHARE = 1 / 3

# Takes an API key; gives an access token and the seconds until it expires.
Exchange = Callable[[str], Awaitable[tuple[str, float]]]


@dataclass(slots=True)
class _Kept:
    principal: Principal
    expires: float
    refresh_at: float


class Principals:
    """Who is asking, for the gateway's routes.

    `exchange` is only called where the key is not known, at most once at a time per key.
    `clock` counts seconds, from anywhere.
    """

    def __init__(
        self, verifier: TokenVerifier, exchange: Exchange, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._verifier = verifier
        self._exchange = exchange
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._refused: OrderedDict[bytes, tuple[FocusError, float]] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[Principal]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ends the exchanges in the background when the context closes."""
        try:
            yield
        finally:
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def authenticate(self, header: str | None) -> Principal:
        """The principal of a request with this Authorization header.

        Raises Unauthenticated (CREDENTIALS_MISSING, CREDENTIALS_INVALID, TOKEN_EXPIRED), and
        Unavailable where it cannot be found out whether an API key is good.
        """
        match = _BEARER.fullmatch(header) if header else None
        if match is None:
            raise Unauthenticated(
                "Send an access token or an API key as 'Authorization: Bearer …'.",
                ErrorReason.ERROR_REASON_CREDENTIALS_MISSING,
            )
        credential = match.group(1)
        if not credential.startswith("fk_"):
            return self._verifier.verify(credential)
        if _API_KEY.fullmatch(credential) is None:
            raise _unknown_key()
        return await self._of_key(credential)

    async def _of_key(self, api_key: str) -> Principal:
        digest = hashlib.sha256(api_key.encode()).digest()
        now = self._clock()
        kept = self._kept.get(digest)
        if kept is not None and now < kept.expires:
            self._kept.move_to_end(digest)
            if now >= kept.refresh_at:
                kept.refresh_at = now + _FAILURE_SECONDS  # the next attempt, should this one fail
                self._start(digest, api_key)
            return kept.principal
        refusal = self._refused.get(digest)
        if refusal is not None:
            error, until = refusal
            if now < until:
                raise _again(error)
            del self._refused[digest]
        # Shielded: others wait for the same exchange, and a caller that leaves must not end it.
        return await asyncio.shield(self._start(digest, api_key))

    def _start(self, digest: bytes, api_key: str) -> asyncio.Task[Principal]:
        task = self._running.get(digest)
        if task is None:
            task = asyncio.create_task(self._exchange_key(digest, api_key), name="exchange an API key")
            self._running[digest] = task
            task.add_done_callback(lambda done: self._end(digest, done))
        return task

    def _end(self, digest: bytes, task: asyncio.Task[Principal]) -> None:
        self._running.pop(digest, None)
        if not task.cancelled():
            task.exception()  # told to whoever waited; nobody waits for a refresh

    async def _exchange_key(self, digest: bytes, api_key: str) -> Principal:
        started = self._clock()
        try:
            token, lifetime = await self._exchange(api_key)
            principal = self._verify_own(token)
        except Unauthenticated as err:
            # The key is unknown or was revoked meanwhile: also a token still kept is used no more.
            self._kept.pop(digest, None)
            self._refuse(digest, _unknown_key(), _REFUSAL_SECONDS)
            log.info("API key refused", reason=err.reason_name)
            raise _unknown_key() from None
        except FocusError as err:
            failure = _unavailable(err)
            self._refuse(digest, failure, _FAILURE_SECONDS)
            log.warning("API key could not be exchanged", reason=err.reason_name)
            raise _again(failure) from None
        self._refused.pop(digest, None)
        self._kept[digest] = _Kept(principal, started + lifetime, started + lifetime * (1 - _REFRESH_SHARE))
        self._kept.move_to_end(digest)
        if len(self._kept) > _KEPT_KEYS:
            self._kept.popitem(last=False)
        return principal

    def _verify_own(self, token: str) -> Principal:
        """Whose token it is that our own service gave out: if it is not good, that is no fault of the caller's."""
        try:
            return self._verifier.verify(token)
        except Unauthenticated:
            log.error("a token for an API key does not verify: compare issuer, audience and key sets of both services")
            raise Unavailable(
                "The API key could not be checked right now; try again in a moment.", retry_after=1.0
            ) from None

    def _refuse(self, digest: bytes, error: FocusError, seconds: float) -> None:
        self._refused[digest] = (error, self._clock() + seconds)
        self._refused.move_to_end(digest)
        if len(self._refused) > _KEPT_REFUSALS:
            self._refused.popitem(last=False)


def _unknown_key() -> Unauthenticated:
    return Unauthenticated("The API key is not valid; check it or make a new one.")


def _unavailable(err: FocusError) -> FocusError:
    """Nobody has refused the key, so it is not the caller's fault: come again."""
    if isinstance(err, DeadlineExceeded | Cancelled):
        return Unavailable(
            "The API key could not be checked right now; try again in a moment.",
            ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
            retry_after=1.0,
        )
    return err


def _again(err: FocusError) -> FocusError:
    """The same error as a new exception: one that is raised twice grows its traceback."""
    return type(err)(err.message, err.reason, retry_after=err.retry_after, metadata=err.metadata)
