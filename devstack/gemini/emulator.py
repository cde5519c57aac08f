"""Everything that the routes share: one emulated Google, made from the settings."""

import time
from collections.abc import Callable
from fnmatch import fnmatchcase

from devstack.gemini.backend import Backend
from devstack.gemini.faults import Faults
from devstack.gemini.keys import KeyRing
from devstack.gemini.quota import Quota, SpendCap
from devstack.gemini.settings import Settings
from devstack.gemini.stats import Stats


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch that never jump: windows must not move when somebody sets the clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class Emulator:
    """State behind both the API and the control plane. It lives on one event loop."""

    def __init__(self, settings: Settings, backend: Backend, clock: Callable[[], float] | None = None) -> None:
        self.settings = settings
        self.backend = backend
        self.clock = clock or steady_clock()
        self.faults = Faults(self.clock)
        self.stats = Stats(
            window_seconds=settings.window_seconds, arrivals_kept=settings.arrivals_kept, clock=self.clock
        )
        self.restore()

    def restore(self) -> None:
        """Keys, limits and counts as they were at the start."""
        settings = self.settings
        self.keys = KeyRing(settings.keys)
        self.quota = Quota(
            settings.limits,
            window_seconds=settings.window_seconds,
            window_kind=settings.window_kind,
            free_tier=settings.free_tier,
            clock=self.clock,
        )
        self.spend = SpendCap(settings.spend_cap_usd, settings.spend_window_seconds, settings.prices, self.clock)
        self.stats.window_seconds = settings.window_seconds
        self.stats.reset()
        self.retry_delay_exact = settings.retry_delay == "exact"

    def has_model(self, model: str) -> bool:
        """True for a model of the catalogue; entries may be shell wildcards."""
        return model in self.settings.models or any(fnmatchcase(model, one) for one in self.settings.models)
