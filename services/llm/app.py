"""Wires the llm service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from focus.llm.v1 import llm_pb2, llm_pb2_grpc
from services.common import logs
from services.common.rpc import server
from services.common.rpc.server import Running
from services.llm import catalogue_file, key_files, messages, watching
from services.llm.catalogue import Catalogue
from services.llm.chain import Cascade, Policy
from services.llm.dispatch import Dispatcher
from services.llm.keys import Key, KeyRing
from services.llm.providers import gemini
from services.llm.servicer import LlmServicer
from services.llm.settings import Settings

log = logs.get(__name__)

SERVICE = llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name


class Current:
    """The catalogue in force, and the keys; both change while the service runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.catalogue or catalogue_file.PACKAGED
        try:
            self._catalogue = catalogue_file.read(self._path)
        except catalogue_file.CatalogueRefused as err:
            raise SystemExit(f"FOCUS_LLM_CATALOGUE: {err}") from None
        if settings.keys_dir is not None and not settings.keys_dir.is_dir():
            raise SystemExit(f"FOCUS_LLM_KEYS_DIR: {settings.keys_dir} is not a directory")
        self.keys = KeyRing(self._read_keys())

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def reload_catalogue(self) -> None:
        """Takes a changed file over; a faulty one is refused and the old one stays."""
        try:
            self._catalogue = catalogue_file.read(self._path)
        except catalogue_file.CatalogueRefused as err:
            log.error("catalogue refused, the old one stays", faults=str(err).splitlines())
            return
        log.info("catalogue taken over", path=str(self._path))

    def reload_keys(self) -> None:
        """Takes changed keys over; calls under way keep theirs."""
        self.keys.replace(self._read_keys())
        log.info("keys taken over", fingerprints=[key.fingerprint for key in self.keys.all])

    def _read_keys(self) -> list[Key]:
        settings = self._settings
        keys = key_files.read(settings.keys_dir) if settings.keys_dir is not None else []
        secret = settings.api_key.get_secret_value().strip()
        if secret:
            keys.append(Key(settings.project, "environment", secret))
        return keys

    async def watched(self) -> None:
        """Follows the files until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(watching.watch(self._path, self.reload_catalogue))
            if self._settings.keys_dir is not None:
                group.create_task(watching.watch(self._settings.keys_dir, self.reload_keys))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """The service between start and ordered stop."""
    async with AsyncExitStack() as stack:
        current = Current(settings)
        if not current.keys.all:
            log.warning("no provider key is configured: set GEMINI_API_KEY or FOCUS_LLM_KEYS_DIR")
        provider = await stack.enter_async_context(
            gemini.opened(settings.base_url, settings.timeouts, connections=settings.connections)
        )
        await provider.warm(settings.warm_connections)
        stack.push_async_callback(_cancelled, asyncio.create_task(current.watched()))
        dispatcher = Dispatcher(provider, current.catalogue, current.keys, settings.timeouts)
        cascade = Cascade(
            dispatcher, Policy(settings.threshold, settings.unstated_confidence, settings.senior_confidence)
        )
        bounds = messages.Bounds(settings.max_question_tokens, settings.default_max_output_tokens)
        servicer = LlmServicer(cascade, bounds, settings.total_seconds)
        yield await stack.enter_async_context(
            server.serving(
                settings,
                lambda grpc_server: llm_pb2_grpc.add_LlmServiceServicer_to_server(servicer, grpc_server),
                [SERVICE],
            )
        )


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
