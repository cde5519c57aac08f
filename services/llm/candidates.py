"""Where a call may go: the endpoints of a tier in the catalogue's order, without those that cannot serve it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.llm.catalogue import Catalogue, Feature, TierName
from services.llm.circuits import Circuits
from services.llm.keys import KeyRing
from services.llm.prompt import Prompt
from services.llm.providers.port import Endpoint


class Candidates:
    """Endpoints for prompts. Projects take turns within each model, so that their quotas are used alike."""

    def __init__(self, catalogue: Callable[[], Catalogue], keys: KeyRing, circuits: Circuits) -> None:
        self._catalogue = catalogue
        self._keys = keys
        self._circuits = circuits
        self._turn = 0

    def all(self) -> Sequence[Endpoint]:
        """Every endpoint that a key and the catalogue make usable."""
        catalogue = self._catalogue()
        return [
            Endpoint(project, model.name, location)
            for tier in ("junior", "senior")
            for model in catalogue.order(tier)
            for location in model.locations
            for project in self._keys.projects
            if catalogue.knows(project) and catalogue.serves(project, model.name)
        ]

    def of(self, tier: TierName, prompt: Prompt, tokens: int, *, without: frozenset[Endpoint]) -> Sequence[Endpoint]:
        """The endpoints to try in this order; empty if there is none.

        Endpoints in `without` and those with an open circuit come into question only when nothing
        else is left.
        """
        catalogue = self._catalogue()
        needed = _features(prompt)
        self._turn += 1
        good: list[Endpoint] = []
        bad: list[Endpoint] = []
        projects = self._keys.usable_projects
        turn = self._turn % len(projects) if projects else 0
        for model in catalogue.order(tier):
            if not needed <= model.features or tokens > model.context_tokens:
                continue
            for location in model.locations:
                for project in (*projects[turn:], *projects[:turn]):
                    if not catalogue.knows(project) or not catalogue.serves(project, model.name):
                        continue
                    endpoint = Endpoint(project, model.name, location)
                    usable = endpoint not in without and self._circuits.allows(project, model.name)
                    (good if usable else bad).append(endpoint)
        return good or bad


def _features(prompt: Prompt) -> frozenset[Feature]:
    needed: set[Feature] = set()
    if prompt.system_instruction:
        needed.add("system_instruction")
    if prompt.response_schema:
        needed.add("json_schema")
    if prompt.tools:
        needed.add("tools")
    if prompt.media:
        needed.add("images")
    if prompt.thinking_budget is not None:
        needed.add("thinking")
    if prompt.cache_name:
        needed.add("caching")
    return frozenset(needed)
