"""Asks a model of a tier: picks model, project and key, and turns the provider's failures into errors for callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, date, datetime

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import errors, logs
from services.llm.answers import Bill, Waiting
from services.llm.catalogue import Catalogue, Model, TierName
from services.llm.keys import Key, KeyRing
from services.llm.prompt import Asker, Prompt
from services.llm.providers import port
from services.llm.providers.port import Chunk, Endpoint, Provider, Timeouts, Usage

log = logs.get(__name__)


class Dispatcher:
    """The chain's `Models` over one provider."""

    def __init__(
        self, provider: Provider, catalogue: Callable[[], Catalogue], keys: KeyRing, timeouts: Timeouts
    ) -> None:
        self._provider = provider
        self._catalogue = catalogue
        self._keys = keys
        self._timeouts = timeouts

    def preferred(self, tier: TierName) -> str:
        return self._catalogue().order(tier)[0].name

    async def stream(
        self, tier: TierName, prompt: Prompt, asker: Asker, bill: Bill
    ) -> AsyncGenerator[Waiting | Chunk, None]:
        model, endpoint, key = self._choose(tier)
        usage = _estimate(prompt)
        shown = False
        try:
            chunks = self._provider.stream(endpoint, key.headers, prompt, self._bounded(asker))
            async with aclosing(chunks):
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    if chunk.finish_reason is not None:
                        _enter(bill, model, usage)
                        shown = True
                        yield chunk
                        return
                    yield chunk
        except port.ProviderError as err:
            raise to_focus_error(err) from None
        finally:
            if not shown:
                _enter(bill, model, usage)

    async def complete(self, tier: TierName, prompt: Prompt, asker: Asker, bill: Bill) -> Chunk:
        model, endpoint, key = self._choose(tier)
        try:
            chunk = await self._provider.complete(endpoint, key.headers, prompt, self._bounded(asker))
        except port.ProviderError as err:
            raise to_focus_error(err) from None
        _enter(bill, model, chunk.usage or _estimate(prompt))
        return chunk

    def _choose(self, tier: TierName) -> tuple[Model, Endpoint, Key]:
        catalogue = self._catalogue()
        for model in catalogue.order(tier):
            for project in self._projects():
                if catalogue.knows(project) and catalogue.serves(project, model.name):
                    key = self._keys.take(project)
                    if key is not None:
                        return model, Endpoint(project, model.name, model.locations[0]), key
        raise errors.Unavailable(
            "No usable provider key is configured; the operator must add one.",
            ErrorReason.ERROR_REASON_PROVIDER_KEY_INVALID,
        )

    def _projects(self) -> Iterator[str]:
        yield from self._keys.projects

    def _bounded(self, asker: Asker) -> Timeouts:
        remaining = asker.deadline - asyncio.get_running_loop().time()
        if remaining <= 0:
            raise errors.DeadlineExceeded("The answer was not ready in time; try again.")
        return self._timeouts if remaining >= self._timeouts.total else replace(self._timeouts, total=remaining)


def _enter(bill: Bill, model: Model, usage: Usage) -> None:
    bill.enter(model.name, usage, model.price(_today()).cost(usage))


def _today() -> date:
    return datetime.now(UTC).date()


def _estimate(prompt: Prompt) -> Usage:
    return Usage(prompt=prompt.characters // 4 + 258 * prompt.media)


def to_focus_error(err: port.ProviderError) -> errors.FocusError:
    """What the caller is told; never the provider's own words."""
    if isinstance(err, port.KeyRefused):
        return errors.Unavailable(
            "The provider refuses the configured key; the operator must replace it.",
            ErrorReason.ERROR_REASON_PROVIDER_KEY_INVALID,
        )
    if isinstance(err, port.QuotaRefused):
        return errors.Exhausted(
            "The provider's quota is used up; try again later.", retry_after=min(err.retry_delay or 5.0, 60.0)
        )
    if isinstance(err, port.RequestRefused):
        named = f" ({', '.join(err.fields)})" if err.fields else ""
        return errors.Rejected(f"The provider refused the request as malformed{named}; change it.")
    if isinstance(err, port.StreamBroken):
        return errors.Unavailable(
            f"The answer could not be completed: {err.what}; try again.",
            ErrorReason.ERROR_REASON_PROVIDER_STREAM_BROKEN,
            retry_after=1.0,
        )
    return errors.Unavailable(
        "The provider cannot answer right now; try again in a moment.",
        ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE,
        retry_after=2.0,
    )
