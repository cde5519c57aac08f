"""Leases to generate an answer, kept alive and shown to those who follow it: one small call for all of the process.

A fill is renewed every 450 ms or so and publishes nothing until the cache says that
somebody follows; then all that was told so far goes out first, and after that every
30 ms what is new. An answer that is there sooner needs no call at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from itertools import islice
from typing import Protocol

from focus.cache.v1 import cache_pb2
from services.common import context, logs
from services.common.errors import Cancelled, DeadlineExceeded, FocusError
from services.flow.events import Delta, Escalated
from services.flow.flight import Course

log = logs.get(__name__)

PUBLISH_SECONDS = 0.03
CALL_SECONDS = 0.5
# What the cache takes at once (`CacheService.Renew`); a fill's events of one call, and the bytes of any of them.
MAX_RENEWALS = 1000
_MAX_EVENTS = 500
_MAX_BYTES = 60_000


class Leases(Protocol):
    """What fills need of the cache service."""

    async def renew(self, request: cache_pb2.RenewRequest, *, timeout: float) -> cache_pb2.RenewResponse: ...

    async def release(self, request: cache_pb2.ReleaseRequest, *, timeout: float) -> cache_pb2.ReleaseResponse: ...


class Fill:
    """The lease of one answer; `course` tells the answer as it comes."""

    def __init__(self, granted: cache_pb2.Fill, course: Course) -> None:
        self.token = granted.token
        self.every = granted.renew_every_ms / 1000
        self.course = course
        self.followed = False
        # How many events are published.
        self.have = 0
        # No more are taken: followers get the rest with the whole answer.
        self._full = False
        self.renewed = time.monotonic()

    def due(self, now: float) -> bool:
        # A beat comes every `every`, and this one's next is the one after.
        return now - self.renewed > self.every / 2 or self.has_news

    @property
    def has_news(self) -> bool:
        return self.followed and not self._full and self.have < len(self.course.told)

    def renewal(self) -> cache_pb2.RenewRequest.Renewal:
        """With what is new, where somebody follows."""
        renewal = cache_pb2.RenewRequest.Renewal(token=self.token, first=self.have)
        if self.has_news:
            size = 0
            for event in islice(self.course.told, self.have, self.have + _MAX_EVENTS):
                one = _published(event)
                size += one.ByteSize()
                if size > _MAX_BYTES:
                    break
                renewal.events.append(one)
            self._full = not renewal.events
        return renewal

    def published(self, sent: cache_pb2.RenewRequest.Renewal, have: int) -> None:
        """The cache has so many events now; what it does not take it never will (its limit is 8,192)."""
        self._full = self._full or (bool(sent.events) and have == sent.first)
        self.have = have


class Fills:
    """All fills of this process."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._fills: dict[bytes, Fill] = {}
        self._beating: asyncio.Task[None] | None = None
        self._followed = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()

    def hold(self, granted: cache_pb2.Fill, course: Course) -> Fill:
        """Renews the lease until it is dropped, and shows `course` to those who follow."""
        fill = Fill(granted, course)
        self._fills[fill.token] = fill
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat(), name="renew fills")
        return fill

    async def followed(self, fill: Fill) -> bool:
        """Whether anybody follows, as of now."""
        if not fill.followed:
            await self._renew([fill])
        return fill.followed

    async def publish(self, fill: Fill) -> None:
        """All that was told, before the answer is stored: who follows sees the same pieces."""
        while fill.has_news and fill.token in self._fills:
            have = fill.have
            await self._renew([fill])
            if fill.have == have:
                return

    def drop(self, fill: Fill) -> None:
        """Renews no more: the answer was stored, or the lease is lost."""
        self._fills.pop(fill.token, None)

    def release(self, fill: Fill, failure: FocusError | None = None) -> None:
        """Ends a fill without answer: those who follow it fail alike, or else one of them takes over.

        The caller's own failures (it left, its time is over) are nobody else's.
        """
        self.drop(fill)
        ended = cache_pb2.ReleaseRequest.Ended(token=fill.token)
        if failure is not None and not isinstance(failure, Cancelled | DeadlineExceeded):
            ended.failure.reason = failure.reason
            ended.failure.message = failure.message
            ended.failure.retry_after_ms = int((failure.retry_after or 0) * 1000)
        self._finish(self._release(ended))

    def give_back(self, looking: Awaitable[cache_pb2.LookupResponse | None]) -> None:
        """Ends the lease that a look-up may bring which nobody needs any more."""
        self._finish(self._give_back(looking))

    async def close(self) -> None:
        """Gives up every lease that is left, so that followers elsewhere need not wait for its end."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        for fill in list(self._fills.values()):
            self.release(fill)
        await asyncio.gather(*self._ending)

    async def _beat(self) -> None:
        context.bind()
        while self._fills:
            now = time.monotonic()
            due = [fill for fill in self._fills.values() if fill.due(now)]
            for first in range(0, len(due), MAX_RENEWALS):
                await self._renew(due[first : first + MAX_RENEWALS])
            await self._pause(min((fill.every for fill in self._fills.values()), default=0.0))

    async def _pause(self, every: float) -> None:
        """Until the next beat; only until there is something to publish where somebody follows."""
        if any(fill.followed for fill in self._fills.values()):
            await asyncio.sleep(PUBLISH_SECONDS)
            return
        self._followed.clear()
        try:
            async with asyncio.timeout(every):
                await self._followed.wait()
        except TimeoutError:
            return

    async def _renew(self, fills: list[Fill]) -> None:
        now = time.monotonic()
        request = cache_pb2.RenewRequest(renewals=[fill.renewal() for fill in fills])
        try:
            response = await self._leases.renew(request, timeout=CALL_SECONDS)
        except FocusError as err:
            # The next beat comes soon; a lease that runs out meanwhile is another's.
            log.info("leases of the cache could not be renewed", reason=err.reason_name)
            return
        for fill, sent, renewed in zip(fills, request.renewals, response.renewed, strict=True):
            fill.renewed = now
            fill.published(sent, renewed.have)
            if renewed.state == cache_pb2.LEASE_STATE_LOST:
                fill.followed = False
                self.drop(fill)
            elif renewed.state == cache_pb2.LEASE_STATE_FOLLOWED and not fill.followed:
                fill.followed = True
                self._followed.set()

    def _finish(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="end a fill")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _give_back(self, looking: Awaitable[cache_pb2.LookupResponse | None]) -> None:
        looked = await looking
        if looked is None:
            return
        for fill in (looked.miss.fill, looked.hit.refresh):
            if fill.leased:
                await self._release(cache_pb2.ReleaseRequest.Ended(token=fill.token))

    async def _release(self, ended: cache_pb2.ReleaseRequest.Ended) -> None:
        try:
            await self._leases.release(cache_pb2.ReleaseRequest(fills=[ended]), timeout=CALL_SECONDS)
        except FocusError as err:
            log.info("a lease of the cache was not given up and runs out by itself", reason=err.reason_name)


def _published(event: Delta | Escalated) -> cache_pb2.FillEvent:
    if isinstance(event, Delta):
        return cache_pb2.FillEvent(delta=event.text)
    told = cache_pb2.FillEvent.Escalated(confidence=event.confidence, threshold=event.threshold, model=event.model)
    return cache_pb2.FillEvent(escalated=told)
