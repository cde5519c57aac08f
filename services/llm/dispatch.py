"""Asks a model of a tier: waits for quota, takes a key, calls, and tries elsewhere what can be tried.

This is the one place that retries, and never after the first piece of an answer.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from services.common import logs
from services.llm import failures, measures, refusals, retries
from services.llm.answers import Bill, Waiting
from services.llm.candidates import Candidates
from services.llm.catalogue import Catalogue, TierName
from services.llm.circuits import Circuits
from services.llm.keys import Key, KeyRing
from services.llm.prompt import Asker, Prompt
from services.llm.providers import port
from services.llm.providers.port import Chunk, Endpoint, Provider, Timeouts, Usage
from services.llm.quarantine import Quarantine
from services.llm.quota import (
    PRIORITIES,
    ComeLater,
    Grant,
    Limiter,
    LimiterUnavailable,
    Never,
    NoRetry,
    Settlement,
    Windows,
    Wish,
    midnights,
)
from services.llm.settling import Settler
from services.llm.tokens import Estimator
from services.llm.waiting import Waiter, WaitingRoom

log = logs.get(__name__)

# A waiting call must be on its way while there is still time for an answer: so much of what it had.
_FOR_THE_ANSWER = 0.2
_MOST_STALE = 20


class Credentials(Protocol):
    """Makes a key the header of a call."""

    async def headers(self, key: Key) -> Mapping[str, str]: ...


@dataclass(slots=True)
class _Try:
    """One question at one tier, over all its attempts."""

    tier: TierName
    prompt: Prompt
    asker: Asker
    bill: Bill
    attempts: int = 0
    stale: int = 0
    avoid: frozenset[Endpoint] = frozenset()
    # Of the attempt under way.
    wish: Wish | None = None
    endpoint: Endpoint | None = None
    key: Key | None = None
    entered_at: float = 0.0
    sent_at: float = 0.0
    usage: Usage | None = None
    over: bool = True
    failures: list[port.ProviderError] = field(default_factory=list)


class Dispatcher:
    """The chain's `Models` over one provider."""

    def __init__(
        self,
        provider: Provider,
        catalogue: Callable[[], Catalogue],
        keys: KeyRing,
        quarantine: Quarantine,
        circuits: Circuits,
        candidates: Candidates,
        limiter: Limiter,
        room: WaitingRoom,
        settler: Settler,
        estimator: Estimator,
        credentials: Credentials,
        timeouts: Timeouts,
        windows: Windows,
    ) -> None:
        self._provider = provider
        self._catalogue = catalogue
        self._keys = keys
        self._quarantine = quarantine
        self._circuits = circuits
        self._limiter = limiter
        self._room = room
        self._settler = settler
        self._estimator = estimator
        self._credentials = credentials
        self._timeouts = timeouts
        self._windows = windows
        self._candidates = candidates

    def preferred(self, tier: TierName) -> str:
        return self._catalogue().order(tier)[0].name

    async def stream(
        self, tier: TierName, prompt: Prompt, asker: Asker, bill: Bill
    ) -> AsyncGenerator[Waiting | Chunk, None]:
        attempt = _Try(tier, prompt, asker, bill)
        begun = False
        while True:
            grant = await self._enter(attempt)
            if isinstance(grant, Waiter):
                waiter = grant
                try:
                    yield Waiting(waiter.place.position, waiter.place.seconds)
                    while not waiter.granted.done():
                        waiter.moved.clear()
                        await waiter.moved.wait()
                        if not waiter.granted.done():
                            yield Waiting(waiter.place.position, waiter.place.seconds)
                    grant = waiter.granted.result()
                except BaseException:
                    await self._room.leave(waiter)
                    raise
            if not await self._begin(attempt, grant):
                continue
            assert attempt.endpoint is not None
            try:
                headers, timeouts = await self._headers(attempt), self._bounded(attempt, grant)
                chunks = self._provider.stream(attempt.endpoint, headers, prompt, timeouts)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        if not begun:
                            begun = True
                            self._first(attempt, chunk)
                        attempt.usage = chunk.usage or attempt.usage
                        if chunk.finish_reason is not None:
                            await self._done(attempt)
                        yield chunk
                        if chunk.finish_reason is not None:
                            return
            except port.ProviderError as err:
                await self._failed(attempt, err, begun=begun)
            finally:
                self._abandoned(attempt)

    async def complete(self, tier: TierName, prompt: Prompt, asker: Asker, bill: Bill) -> Chunk:
        attempt = _Try(tier, prompt, asker, bill)
        while True:
            grant = await self._enter(attempt)
            if isinstance(grant, Waiter):
                waiter = grant
                try:
                    grant = await asyncio.shield(waiter.granted)
                except BaseException:
                    await self._room.leave(waiter)
                    raise
            if not await self._begin(attempt, grant):
                continue
            assert attempt.endpoint is not None
            try:
                headers, timeouts = await self._headers(attempt), self._bounded(attempt, grant)
                chunk = await self._provider.complete(attempt.endpoint, headers, prompt, timeouts)
                attempt.usage = chunk.usage
                await self._done(attempt)
                return chunk
            except port.ProviderError as err:
                await self._failed(attempt, err, begun=False)
            finally:
                self._abandoned(attempt)

    async def _enter(self, attempt: _Try) -> Grant | Waiter:
        """A grant, or a place to wait at. Raises FocusError."""
        if attempt.failures and not isinstance(attempt.failures[-1], port.QuotaRefused | port.KeyRefused):
            await asyncio.sleep(retries.full_jitter(attempt.attempts))
        await self._quarantine.refresh()
        if not self._keys.usable_projects:
            raise failures.no_key()
        prompt, asker = attempt.prompt, attempt.asker
        model = self.preferred(attempt.tier)
        tokens = self._estimator.input_tokens(model, prompt)
        endpoints = self._candidates.of(attempt.tier, prompt, tokens, without=attempt.avoid)
        if not endpoints:
            raise failures.nobody_can(attempt.tier)
        estimated = Usage(tokens, 0, self._estimator.output_tokens(model, prompt))
        attempt.entered_at = now = asyncio.get_running_loop().time()
        remaining = asker.deadline - now
        if remaining <= 0:
            raise failures.too_late()
        attempt.wish = wish = Wish(
            uuid.uuid4().hex,
            attempt.tier,
            asker.tenant_id,
            PRIORITIES[asker.priority],
            tokens,
            self._cost(endpoints[0].model, estimated, asker),
            endpoints,
            self._timeouts.total + 60.0,
            asker.person_id,
            # A call that was refused for quota or key did no work: only those that failed are retries.
            retry=bool(attempt.failures) and not isinstance(attempt.failures[-1], port.QuotaRefused | port.KeyRefused),
        )
        try:
            outcome = await self._room.enter(wish, now + remaining * (1 - _FOR_THE_ANSWER))
        except LimiterUnavailable:
            raise failures.unavailable() from None
        if isinstance(outcome, Grant | Waiter):
            return outcome
        if isinstance(outcome, NoRetry):
            raise failures.to_focus_error(attempt.failures[-1])
        if isinstance(outcome, ComeLater):
            measures.TURNED_AWAY.inc()
            raise failures.exhausted(outcome.seconds)
        if isinstance(outcome, Never):
            raise failures.never()
        raise failures.unavailable()

    async def _begin(self, attempt: _Try, grant: Grant) -> bool:
        """Takes a key for the grant; False where the grant is of no use any more and another one is needed."""
        wish = attempt.wish
        assert wish is not None
        loop = asyncio.get_running_loop()
        key = self._keys.take(grant.endpoint.project)
        if key is None or loop.time() > grant.send_by:
            self._settler.add(Settlement(wish, grant.endpoint, "unsent"))
            attempt.stale += 1
            measures.STALE.inc()
            if attempt.stale > _MOST_STALE:
                raise failures.unavailable()
            return False
        attempt.endpoint, attempt.key, attempt.usage = grant.endpoint, key, None
        attempt.attempts += 1
        attempt.sent_at = loop.time()
        measures.WAIT_SECONDS.labels(attempt.tier).observe(attempt.sent_at - attempt.entered_at)
        attempt.over = False
        if attempt.attempts > 1:
            measures.RETRIES.labels(grant.endpoint.model).inc()
        self._circuits.begin(grant.endpoint.project, grant.endpoint.model)
        return True

    async def _headers(self, attempt: _Try) -> Mapping[str, str]:
        assert attempt.key is not None
        return await self._credentials.headers(attempt.key)

    def _bounded(self, attempt: _Try, grant: Grant) -> Timeouts:
        now = asyncio.get_running_loop().time()
        timeouts = self._timeouts
        # A connection that is not there in time would carry the call out of its grant's guard.
        connect = max(0.001, min(timeouts.connect, grant.send_by - now))
        total = max(0.001, min(timeouts.total, attempt.asker.deadline - now))
        return replace(timeouts, connect=connect, total=total)

    def _first(self, attempt: _Try, chunk: Chunk) -> None:
        endpoint, wish = attempt.endpoint, attempt.wish
        assert endpoint is not None
        assert wish is not None
        measures.FIRST_TOKEN_SECONDS.labels(endpoint.model).observe(asyncio.get_running_loop().time() - attempt.sent_at)
        usage = chunk.usage
        if usage is None or chunk.finish_reason is not None or not usage.prompt or usage.prompt == wish.tokens:
            return
        if self._catalogue().limits(endpoint).input_tpm is not None:
            # Corrected at the first piece rather than the last, so that the estimate's surplus is free at once.
            self._settler.add(Settlement(wish, endpoint, "adjust", usage))

    async def _done(self, attempt: _Try) -> None:
        endpoint, key = attempt.endpoint, attempt.key
        assert endpoint is not None
        assert key is not None
        self._circuits.succeeded(endpoint.project, endpoint.model)
        if attempt.usage is not None:
            self._estimator.learn(endpoint.model, attempt.prompt, attempt.usage)
        self._settle(attempt, "done")
        await self._quarantine.worked(key)

    def _settle(self, attempt: _Try, outcome: str) -> None:
        """Enters the attempt into bill and ledger, once."""
        endpoint, wish = attempt.endpoint, attempt.wish
        assert endpoint is not None
        assert wish is not None
        attempt.over = True
        measures.CALLS.labels(endpoint.project, endpoint.model, outcome).inc()
        usage = attempt.usage or Usage()
        if outcome == "done" and attempt.usage is None:
            # It said nothing of its usage, or was cut off before: what was reserved stands.
            usage = Usage(wish.tokens)
        cost = self._cost(endpoint.model, usage, attempt.asker) if usage != Usage() else 0
        if usage.prompt > wish.tokens:
            measures.OVERSHOOTS.labels(endpoint.model).inc()
        for kind in ("prompt", "cached", "output", "thoughts"):
            count = getattr(usage, kind)
            if count:
                measures.TOKENS.labels(endpoint.model, kind).inc(count)
        measures.COST.labels(endpoint.model).inc(cost)
        if cost or outcome == "done":
            attempt.bill.enter(endpoint.model, usage, cost)
        self._settler.add(Settlement(wish, endpoint, outcome, usage, cost))

    def _abandoned(self, attempt: _Try) -> None:
        """The caller left in the middle: what was used until then is billed."""
        if not attempt.over and attempt.endpoint is not None:
            self._circuits.abandoned(attempt.endpoint.project, attempt.endpoint.model)
            self._settle(attempt, "done")

    async def _failed(self, attempt: _Try, err: port.ProviderError, *, begun: bool) -> None:
        """Draws the consequences; returns if the call may be tried again, else raises FocusError."""
        endpoint, key, wish = attempt.endpoint, attempt.key, attempt.wish
        assert endpoint is not None
        assert key is not None
        assert wish is not None
        if isinstance(err, port.Overloaded) and not err.sent:
            attempt.over = True
            self._settler.add(Settlement(wish, endpoint, "unsent"))
            if err.late and attempt.stale < _MOST_STALE:
                # Nothing failed: there was no connection within the guard, so the call needs another grant.
                attempt.stale += 1
                attempt.attempts -= 1
                measures.STALE.inc()
                self._circuits.abandoned(endpoint.project, endpoint.model)
                return
        else:
            self._settle(attempt, "failed")
        attempt.failures.append(err)
        try:
            if isinstance(err, port.QuotaRefused):
                await self._cool_down(endpoint, err)
            elif isinstance(err, port.KeyRefused):
                await self._quarantine.put(key, leaked=err.leaked)
                self._circuits.abandoned(endpoint.project, endpoint.model)
            elif isinstance(err, port.RequestRefused):
                self._circuits.succeeded(endpoint.project, endpoint.model)
                raise failures.to_focus_error(err)
            else:
                self._circuits.failed(endpoint.project, endpoint.model)
                attempt.avoid |= {endpoint}
        except LimiterUnavailable:
            pass
        log.info(
            "call to the provider failed",
            project=endpoint.project,
            model=endpoint.model,
            failure=type(err).__name__,
            what=str(err),
            attempt=attempt.attempts,
        )
        late = asyncio.get_running_loop().time() >= attempt.asker.deadline
        most = retries.MOST_ATTEMPTS
        if isinstance(err, port.KeyRefused):
            # Each costs one call and is then gone for everybody.
            most += len(self._keys.all)
        if begun or late or attempt.attempts >= most:
            raise failures.too_late() if late else failures.to_focus_error(err)

    async def _cool_down(self, endpoint: Endpoint, err: port.QuotaRefused) -> None:
        limits = self._catalogue().limits(endpoint)
        until_midnight = midnights(time.time())[2] / 1000 - time.time()
        cool = refusals.classify(
            err, self._windows, until_midnight, known_limits=limits.spend is not None and not limits.adaptive
        )
        measures.REFUSALS.labels(endpoint.project, endpoint.model, cool.scope).inc()
        log.warning(
            "provider's quota refused a call",
            project=endpoint.project,
            model=endpoint.model,
            scope=cool.scope,
            seconds=round(cool.seconds, 2),
            quotas=[violation.quota_id for violation in err.violations],
        )
        concerned = [endpoint]
        if cool.whole_project:
            concerned += [one for one in self._candidates.all() if one.project == endpoint.project and one != endpoint]
        await self._limiter.cool(concerned, cool.seconds, lower=cool.scope in ("minute", "unknown"))

    def _cost(self, model: str, usage: Usage, asker: Asker) -> int:
        known = self._catalogue().models.get(model)
        return 0 if known is None else known.price(datetime.now(UTC).date()).cost(usage)
