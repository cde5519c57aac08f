"""The provider's keys, each belonging to a project.

A key's text leaves this module only inside the header of a call. Everything else (logs, errors,
metrics, RPCs) knows a key by its fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
        object.__setattr__(self, "headers", {HEADER: self.secret})
        digest = hashlib.blake2b(self.secret.encode(), digest_size=6, person=b"focus-llm-key").hexdigest()
        object.__setattr__(self, "fingerprint", digest)


class KeyRing:
    """The keys in use, round-robin within each project; quarantined ones are passed over."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_project: dict[str, list[Key]] = {}
        self._turn: dict[str, int] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Puts other keys in force; calls under way keep the one they have."""
        by_project: dict[str, list[Key]] = {}
        for key in keys:
            by_project.setdefault(key.project, []).append(key)
        for owned in by_project.values():
            owned.sort(key=lambda key: key.label)
        self._by_project = by_project

    @property
    def projects(self) -> Sequence[str]:
        """Projects that have a key, in order."""
        return sorted(self._by_project)

    @property
    def all(self) -> Sequence[Key]:
        """Every key."""
        return [key for project in self.projects for key in self._by_project[project]]

    def take(self, project: str, avoid: frozenset[str] | set[str] = frozenset()) -> Key | None:
        """The project's next key whose fingerprint is not in `avoid`; None if there is none."""
        owned = self._by_project.get(project)
        if not owned:
            return None
        start = self._turn.get(project, 0)
        for step in range(len(owned)):
            key = owned[(start + step) % len(owned)]
            if key.fingerprint not in avoid:
                self._turn[project] = (start + step + 1) % len(owned)
                return key
        return None

    def usable(self, project: str, avoid: frozenset[str] | set[str] = frozenset()) -> bool:
        """True where `take` would find one."""
        return any(key.fingerprint not in avoid for key in self._by_project.get(project, ()))
