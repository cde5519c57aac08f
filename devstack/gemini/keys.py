"""API keys: each belongs to one project, and may be removed or marked as leaked while the emulator runs."""

from collections.abc import Mapping, Sequence

from devstack.gemini import errors


class KeyRing:
    """Knows which project a key stands for."""

    def __init__(self, keys: Mapping[str, Sequence[str]]) -> None:
        self._project_of = {key: project for project, owned in keys.items() for key in owned}
        self._leaked: set[str] = set()

    def project(self, key: str | None) -> str:
        """The key's project.

        Raises ApiError: 403 without a key or with a leaked one, 400 API_KEY_INVALID for an unknown one.
        """
        if not key:
            raise errors.no_key()
        project = self._project_of.get(key)
        if project is None:
            raise errors.bad_key()
        if key in self._leaked:
            raise errors.leaked_key()
        return project

    def knows(self, key: str | None) -> bool:
        """True for a key of this ring, leaked or not."""
        return key in self._project_of

    def add(self, project: str, key: str) -> None:
        """Adds a key, or moves it to another project; it is not leaked afterwards."""
        self._project_of[key] = project
        self._leaked.discard(key)

    def remove(self, key: str) -> None:
        """Forgets a key: callers get 400 API_KEY_INVALID."""
        self._project_of.pop(key, None)
        self._leaked.discard(key)

    def mark_leaked(self, key: str) -> None:
        """From now on the key answers 403."""
        self._leaked.add(key)

    def mark_healthy(self, key: str) -> None:
        """Takes ``mark_leaked`` back."""
        self._leaked.discard(key)

    def listing(self) -> list[dict[str, object]]:
        """All keys with project and state."""
        return [
            {"project": project, "key": key, "leaked": key in self._leaked} for key, project in self._project_of.items()
        ]
