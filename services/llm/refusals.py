"""What a 429 means: which limit was passed, for whom, and how long nothing should be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.llm.providers.port import QuotaRefused, Violation
from services.llm.quota import Windows

Scope = Literal["minute", "day", "spend", "unknown"]

_LEAST = 0.5


@dataclass(frozen=True, slots=True)
class CoolDown:
    """Nothing for `seconds` to the endpoint, or to the `whole_project`."""

    scope: Scope
    seconds: float
    whole_project: bool


def classify(refused: QuotaRefused, windows: Windows, until_midnight: float, *, known_limits: bool) -> CoolDown:
    """The cool-down for a refusal; `until_midnight` is in seconds, Pacific time.

    The quota's id decides, not the advised delay: a provider was seen to answer `86400s` to a
    minute's limit (sub2api#5443). The advice is honoured within the bounds of its scope. Without
    any id it is a spend cap where the endpoint's limits are known, for those we keep ourselves;
    else anything.
    """
    scope = _scope(refused.violations, known_limits=known_limits)
    advised = refused.retry_delay
    if scope == "day":
        return CoolDown("day", max(until_midnight, _LEAST), whole_project=False)
    if scope == "minute":
        # Whole seconds are seen where the message says more; a little later is not refused again.
        seconds = windows.minute / 2 if advised is None else advised + min(1.0, windows.guard)
        return CoolDown("minute", _within(seconds, windows.whole), whole_project=False)
    if scope == "spend":
        seconds = windows.spend / 20 if advised is None else advised
        return CoolDown("spend", _within(seconds, windows.spend), whole_project=True)
    seconds = windows.minute / 12 if advised is None else advised
    return CoolDown("unknown", _within(seconds, windows.whole), whole_project=False)


def _scope(violations: Sequence[Violation], *, known_limits: bool) -> Scope:
    names = [violation.quota_id + violation.metric for violation in violations]
    if any("PerDay" in name or "per_day" in name for name in names):
        return "day"
    if any("PerMinute" in name or "per_minute" in name for name in names):
        return "minute"
    if any("pend" in name or "udget" in name for name in names):
        return "spend"
    return "spend" if known_limits and not names else "unknown"


def _within(seconds: float, longest: float) -> float:
    return min(max(seconds, _LEAST), longest)
