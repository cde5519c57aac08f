"""The catalogue: which models there are, what they cost, and what each project may use of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from focus.chat.v1.chat_pb2 import Tier
from services.llm import pricing
from services.llm.pricing import Price, Rates
from services.llm.providers.port import Endpoint

TierName = Literal["junior", "senior"]
Feature = Literal["system_instruction", "json_schema", "tools", "images", "thinking", "caching", "logprobs", "batch"]
Api = Literal["developer", "vertex"]

TIERS: Mapping[TierName, Tier.ValueType] = {"junior": Tier.TIER_JUNIOR, "senior": Tier.TIER_SENIOR}

MicroDollars = Annotated[int, Field(ge=0, le=10**12)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RatesEntry(_Entry):
    """Micro-dollars per million tokens; `cached_input` defaults to a tenth of `input`."""

    input: MicroDollars
    output: MicroDollars
    cached_input: MicroDollars | None = None

    def rates(self) -> Rates:
        cached = self.input // 10 if self.cached_input is None else self.cached_input
        return Rates(self.input, self.output, cached)


class LongContextEntry(RatesEntry):
    """The price of a whole call whose input is longer than `above_input_tokens`."""

    above_input_tokens: int = Field(gt=0)


class PriceEntry(RatesEntry):
    """A price from the day `from` on; `call` is a flat price per call."""

    effective: date = Field(alias="from")
    call: MicroDollars = 0
    long_context: LongContextEntry | None = None

    def price(self) -> Price:
        long = self.long_context
        return Price(
            self.effective,
            self.rates(),
            self.call,
            None if long is None else long.above_input_tokens,
            None if long is None else long.rates(),
        )


class ModelEntry(_Entry):
    """One model."""

    tier: TierName
    locations: list[str] = Field(default=["global"], min_length=1)
    context_tokens: int = Field(gt=0)
    output_tokens: int = Field(gt=0)
    features: list[Feature] = []
    prices: list[PriceEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        days = [price.effective for price in self.prices]
        if days != sorted(set(days)):
            raise ValueError("prices must be ordered by their `from` days, each day once")
        return self


class LimitEntry(_Entry):
    """What a project may use of a model; a limit that is left out does not exist.

    `adaptive`: the limit is unknown or shared with outsiders, so a ceiling is felt out instead,
    starting at `rpm` (or 60 a minute).
    """

    rpm: int | None = Field(default=None, gt=0)
    input_tpm: int | None = Field(default=None, gt=0)
    rpd: int | None = Field(default=None, gt=0)
    input_tpd: int | None = Field(default=None, gt=0)
    adaptive: bool = False


class AccountEntry(_Entry):
    """An account tier: limits by model, or by `model@location`; shell wildcards, the first that fits is taken."""

    spend_per_10_minutes_usd: float | None = Field(default=None, gt=0, strict=False)
    limits: dict[str, LimitEntry]


class ProjectEntry(_Entry):
    """A Google Cloud project. Its account tier is one line."""

    account: str
    api: Api = "developer"
    models: list[str] | None = None
    limits: dict[str, LimitEntry] = {}


class CatalogueFile(_Entry):
    """The file as it stands."""

    version: Literal[1]
    order: dict[TierName, list[str]]
    models: dict[str, ModelEntry] = Field(min_length=1)
    accounts: dict[str, AccountEntry] = Field(min_length=1)
    projects: dict[str, ProjectEntry] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one endpoint; None: there is none. Spend is in micro-dollars per ten minutes and project."""

    rpm: int | None = None
    input_tpm: int | None = None
    rpd: int | None = None
    input_tpd: int | None = None
    spend: int | None = None
    adaptive: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the rest of the service sees it."""

    name: str
    tier: TierName
    locations: Sequence[str]
    context_tokens: int
    output_tokens: int
    features: frozenset[Feature]
    prices: Sequence[Price]

    def price(self, today: date) -> Price:
        return pricing.in_force(self.prices, today)


class CatalogueInvalid(Exception):
    """The catalogue cannot be used; each fault says where (a path into the file) and why."""

    def __init__(self, faults: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__("; ".join(reason for _, reason in faults))
        self.faults = faults


class Catalogue:
    """A validated catalogue; immutable, a change of the file makes a new one."""

    def __init__(self, file: CatalogueFile) -> None:
        _cross_check(file)
        self._file = file
        self.models: Mapping[str, Model] = {
            name: Model(
                name,
                entry.tier,
                tuple(entry.locations),
                entry.context_tokens,
                entry.output_tokens,
                frozenset(entry.features),
                tuple(price.price() for price in entry.prices),
            )
            for name, entry in file.models.items()
        }
        self._limits: dict[Endpoint, Limits] = {}

    def order(self, tier: TierName) -> Sequence[Model]:
        """The tier's models, the preferred one first; the others are its fallbacks."""
        return [self.models[name] for name in self._file.order.get(tier, [])]

    def api(self, project: str) -> Api:
        """Which of Google's two APIs serves the project."""
        return self._project(project).api

    def serves(self, project: str, model: str) -> bool:
        """True where the project may use the model."""
        served = self._project(project).models
        return served is None or model in served

    def limits(self, endpoint: Endpoint) -> Limits:
        """The endpoint's limits: the project's own entry, else its account tier's."""
        found = self._limits.get(endpoint)
        if found is None:
            found = self._limits[endpoint] = self._find_limits(endpoint)
        return found

    def account(self, project: str) -> str:
        """The project's account tier."""
        return self._project(project).account

    def _project(self, name: str) -> ProjectEntry:
        for pattern, entry in self._file.projects.items():
            if fnmatchcase(name, pattern):
                return entry
        raise KeyError(name)

    def knows(self, project: str) -> bool:
        """True where an entry fits the project."""
        return any(fnmatchcase(project, pattern) for pattern in self._file.projects)

    def _find_limits(self, endpoint: Endpoint) -> Limits:
        project = self._project(endpoint.project)
        account = self._file.accounts[project.account]
        cap = account.spend_per_10_minutes_usd
        spend = None if cap is None else round(cap * 1_000_000)
        names = (f"{endpoint.model}@{endpoint.location}", endpoint.model)
        for table in (project.limits, account.limits):
            for pattern, entry in table.items():
                if any(fnmatchcase(name, pattern) for name in names):
                    return Limits(entry.rpm, entry.input_tpm, entry.rpd, entry.input_tpd, spend, entry.adaptive)
        return Limits(spend=spend, adaptive=True)


def _cross_check(file: CatalogueFile) -> None:
    faults: list[tuple[tuple[str | int, ...], str]] = [
        (("order",), f"order must name at least one {tier} model") for tier in TIERS if not file.order.get(tier)
    ]
    for tier, names in file.order.items():
        for index, name in enumerate(names):
            model = file.models.get(name)
            if model is None:
                faults.append((("order", tier, index), f"'{name}' is not under models"))
            elif model.tier != tier:
                faults.append((("order", tier, index), f"'{name}' is a {model.tier} model"))
    for project, entry in file.projects.items():
        if entry.account not in file.accounts:
            faults.append((("projects", project, "account"), f"there is no account tier '{entry.account}'"))
        for index, name in enumerate(entry.models or ()):
            if name not in file.models:
                faults.append((("projects", project, "models", index), f"'{name}' is not under models"))
    if faults:
        raise CatalogueInvalid(faults)
