"""The provider's keys, each belonging to a project.

A key's text leaves this module only inside the header of a call. Everything else (logs, errors,
metrics, RPCs) knows a key by its fingerprint.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

HEADER = "x-goog-api-key"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of `project`; `label` tells it from the project's others."""

    project: str
    label: str
    secret: str = field(repr=False)
    # A header-ready mapping, made once.
    headers: Mapping[str, str] = field(init=False, repr=False, compare=False)
    fingerprint: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {} if self.is_service_account else {HEADER: self.secret})
        digest = hashlib.blake2b(self.secret.encode(), digest_size=6, person=b"focus-llm-key").hexdigest()
        object.__setattr__(self, "fingerprint", digest)

    @property
    def is_service_account(self) -> bool:
        """True for a service account's JSON, which is no header by itself."""
        return self.secret.startswith("{")


class KeyRing:
    """The keys in use, round-robin within each project; refused ones are passed over until their time is up."""

    def __init__(self, keys: Iterable[Key] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_project: dict[str, list[Key]] = {}
        self._turn: dict[str, int] = {}
        self._refused: dict[str, float] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Puts other keys in force; calls under way keep the one they have."""
        by_project: dict[str, list[Key]] = {}
        for key in keys:
            by_project.setdefault(key.project, []).append(key)
        for owned in by_project.values():
            owned.sort(key=lambda key: key.label)
        self._by_project = by_project

    def refuse(self, fingerprints: Mapping[str, float]) -> None:
        """Exactly these keys are passed over now, each for so many seconds."""
        now = self._clock()
        self._refused = {fingerprint: now + seconds for fingerprint, seconds in fingerprints.items() if seconds > 0}

    def refused_for(self, key: Key) -> float:
        """Seconds that the key is still passed over; 0: it is in use."""
        return max(0.0, self._refused.get(key.fingerprint, 0.0) - self._clock())

    @property
    def projects(self) -> Sequence[str]:
        """Projects that have a key, in order."""
        return sorted(self._by_project)

    @property
    def usable_projects(self) -> Sequence[str]:
        """Projects that have a key that is not refused, in order."""
        if not self._refused:
            return self.projects
        return [
            project for project in self.projects if any(not self.refused_for(key) for key in self._by_project[project])
        ]

    @property
    def all(self) -> Sequence[Key]:
        """Every key."""
        return [key for project in self.projects for key in self._by_project[project]]

    def take(self, project: str) -> Key | None:
        """The project's next key that is not refused; None if there is none."""
        owned = self._by_project.get(project)
        if not owned:
            return None
        start = self._turn.get(project, 0)
        for step in range(len(owned)):
            key = owned[(start + step) % len(owned)]
            if not self._refused or not self.refused_for(key):
                self._turn[project] = (start + step + 1) % len(owned)
                return key
        return None
