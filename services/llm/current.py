"""What changes while the service runs: the catalogue in force, and the keys."""

from __future__ import annotations

import asyncio

from services.common import logs
from services.llm import catalogue_file, key_files, watching
from services.llm.catalogue import Catalogue
from services.llm.keys import Key, KeyRing
from services.llm.settings import Settings

log = logs.get(__name__)


class Current:
    """Reads both at the start; raises SystemExit with a sentence where that is not possible."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.catalogue or catalogue_file.PACKAGED
        # Looked at before reading, so that a change in between is noticed.
        self._seen = {path: watching.state(path) for path in (self._path, settings.keys_dir) if path is not None}
        try:
            self._catalogue = catalogue_file.read(self._path)
        except catalogue_file.CatalogueRefused as err:
            raise SystemExit(f"FOCUS_LLM_CATALOGUE: {err}") from None
        if settings.keys_dir is not None and not settings.keys_dir.is_dir():
            raise SystemExit(f"FOCUS_LLM_KEYS_DIR: {settings.keys_dir} is not a directory")
        self.keys = KeyRing(self._read_keys())
        if not self.keys.all:
            log.warning("no provider key is configured: set GEMINI_API_KEY or FOCUS_LLM_KEYS_DIR")

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def is_vertex(self, project: str) -> bool:
        """True for a project that is called at Vertex AI."""
        return self._catalogue.knows(project) and self._catalogue.api(project) == "vertex"

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
        keys = self._read_keys()
        if not keys and self.keys.all:
            # A Secret being swapped, or a slip; whatever it is, working keys are worth more than none.
            log.error("the key directory is empty, the old keys stay")
            return
        self.keys.replace(keys)
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
            group.create_task(watching.watch(self._path, self.reload_catalogue, self._seen[self._path]))
            if self._settings.keys_dir is not None:
                directory = self._settings.keys_dir
                group.create_task(watching.watch(directory, self.reload_keys, self._seen[directory]))
