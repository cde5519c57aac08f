"""Switchable and scheduled faults.

Each arriving request is matched against all faults in force; what fits is merged, later ones over earlier ones, into
the one Fault that its delivery follows. Chance comes from a seeded generator per fault, so a run can be repeated.
"""

import random
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Effect(BaseModel):
    """What a fault does. Times are seconds; chunks are counted from 1."""

    model_config = ConfigDict(extra="forbid")

    first_byte_delay: float | None = Field(default=None, ge=0)
    chunk_delay: float | None = Field(default=None, ge=0)
    tokens_per_second: float | None = Field(default=None, gt=0)

    status: Literal[400, 403, 429, 499, 500, 503, 504] | None = None
    error_after_chunks: int | None = Field(default=None, ge=0, description="send the error inside the stream instead")
    quota: Literal["rpm", "tpm", "rpd", "tpd", "spend"] = Field(default="rpm", description="which quota a 429 names")
    retry_info: str | None = Field(default=None, description="'missing', or a delay such as '86400s'; also real 429s")

    cut_after_chunks: int | None = Field(default=None, ge=0)
    cut: Literal["reset", "close", "eof"] = Field(
        default="reset", description="TCP reset; end of connection within the body; or a clean but early end"
    )
    hang: bool = False
    hang_after_chunks: int | None = Field(default=None, ge=0)

    finish_reason: str | None = Field(default=None, description="SAFETY and its like lose the content, MAX_TOKENS not")
    block_reason: str | None = Field(default=None, description="the prompt is refused by promptFeedback")
    empty: bool = Field(default=False, description="a candidate without text")
    usage: dict[Literal["prompt", "candidates", "thoughts", "cached", "total"], int] | Literal["missing"] | None = None
    malformed_sse: Literal["broken_json", "garbage", "byte_by_byte", "lf"] | None = Field(
        default=None, description="the first two are wrong; the last two are valid but unusual"
    )
    invalid_json: bool = Field(default=False, description="status 200 with a body that is cut in the middle")


class Fault(BaseModel):
    """An effect, and whom it strikes. Patterns are shell wildcards; a count is of requests struck."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    model: str = "*"
    project: str = "*"
    key: str = "*"
    percent: float = Field(default=100.0, ge=0, le=100)
    skip: int = Field(default=0, ge=0, description="requests that fit but are spared first")
    count: int | None = Field(default=None, ge=1, description="requests struck before the fault is over")
    starts_in: float = Field(default=0.0, ge=0, description="seconds from now")
    lasts: float | None = Field(default=None, gt=0, description="seconds; without it until removed")
    seed: int = 0
    effect: Effect


class _Active:
    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self.begins = now + fault.starts_in
        self.ends = None if fault.lasts is None else self.begins + fault.lasts
        self.skipped = 0
        self.struck = 0
        # Repeatable chance for tests, not a secret.
        self._random = random.Random(fault.seed)  # noqa: S311
        self.given = fault.effect.model_dump(exclude_unset=True)

    def strikes(self, model: str, project: str, key: str, now: float) -> bool:
        fault = self.fault
        if now < self.begins or (self.ends is not None and now >= self.ends):
            return False
        if fault.count is not None and self.struck >= fault.count:
            return False
        fits = fnmatchcase(model, fault.model) and fnmatchcase(project, fault.project) and fnmatchcase(key, fault.key)
        if not fits:
            return False
        if self.skipped < fault.skip:
            self.skipped += 1
            return False
        if fault.percent < 100 and self._random.random() * 100 >= fault.percent:
            return False
        self.struck += 1
        return True


class Faults:
    """The faults in force."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._active: list[_Active] = []

    def add(self, faults: list[Fault]) -> None:
        """Puts faults in force from now on."""
        now = self._clock()
        self._active += [_Active(fault, now) for fault in faults]

    def clear(self, name: str | None = None) -> None:
        """Ends all faults, or those of one name."""
        self._active = [] if name is None else [one for one in self._active if one.fault.name != name]

    def strike(self, model: str, project: str, key: str) -> Effect | None:
        """The merged effect on this request; None when no fault strikes it."""
        if not self._active:
            return None
        now = self._clock()
        merged: dict[str, Any] = {}
        struck = False
        for one in self._active:
            if one.strikes(model, project, key, now):
                merged.update(one.given)
                struck = True
        return Effect.model_construct(**merged) if struck else None

    def listing(self) -> list[dict[str, object]]:
        """All faults with how often each has struck."""
        return [{**one.fault.model_dump(exclude_unset=True), "struck": one.struck} for one in self._active]
