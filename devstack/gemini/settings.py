"""Settings of the emulator, read once from the environment by ``__main__`` and passed on as one value."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

WindowKind = Literal["sliding", "fixed"]


class Limit(BaseModel):
    """Quota of one (project, model). ``None`` means no limit in that dimension."""

    model_config = ConfigDict(extra="forbid")

    rpm: int | None = Field(default=None, ge=0, description="requests per quota minute")
    tpm: int | None = Field(default=None, ge=0, description="input tokens per quota minute")
    rpd: int | None = Field(default=None, ge=0, description="requests per day, which ends at midnight Pacific time")
    tpd: int | None = Field(default=None, ge=0, description="input tokens per day, as some free tiers have")


# project pattern -> model pattern -> limit; patterns are shell wildcards and the first that fits is taken.
Limits = dict[str, dict[str, Limit]]

PLAN_LIMITS: Limits = {
    "*": {
        "*flash-lite*": Limit(rpm=1500, tpm=4_000_000),
        "*pro*": Limit(rpm=360, tpm=2_000_000),
        "*": Limit(rpm=1000, tpm=4_000_000),
    }
}

MODELS = [
    "gemini-3.5-flash-lite",
    "gemini-3.1-flash-lite",
    "gemini-3.1-pro-preview",
    "gemini-3.8-flash",
    "gemini-2.5-flash-lite",
    "gemini-2.5-pro",
]

# USD per million tokens, which is the same number as micro-dollars per token: (input, output).
PRICES = {
    "gemini-3.5-flash-lite": (0.30, 2.50),
    "gemini-3.1-flash-lite": (0.25, 1.50),
    "gemini-3.1-pro-preview": (2.0, 12.0),
    "gemini-3.8-flash": (0.75, 3.75),
    "gemini-2.5-flash-lite": (0.10, 0.40),
    "gemini-2.5-pro": (1.25, 10.0),
}


class Settings(BaseSettings):
    """Everything that can be set from outside; each field is ``FOCUS_GEMINI_<NAME>``, collections as JSON."""

    model_config = SettingsConfigDict(env_prefix="FOCUS_GEMINI_", extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535, description="0 takes a free port")
    backend: Literal["local", "scripted"] = "local"

    keys: dict[str, list[str]] = Field(
        default={"demo": ["focus-emulator-key"]}, description="project -> its API keys, which share its quota"
    )
    models: list[str] = Field(default=MODELS, min_length=1)

    window_seconds: float = Field(default=60.0, gt=0, description="length of a quota minute; 3 in tests")
    window_kind: WindowKind = "sliding"
    limits: Limits = Field(default=PLAN_LIMITS)
    free_tier: bool = Field(default=False, description="adds 1,000,000 input tokens a day and free-tier quota names")
    retry_delay: Literal["exact", "floored"] = Field(
        default="exact", description="RetryInfo as 12.345s, or cut to 12s while the message keeps the fraction"
    )
    spend_cap_usd: float | None = Field(default=None, ge=0, description="per project over spend_window_seconds")
    spend_window_seconds: float = Field(default=600.0, gt=0)
    prices: dict[str, tuple[float, float]] = Field(default=PRICES, description="model -> USD per 1M tokens (in, out)")

    arrivals_kept: int = Field(default=200_000, ge=0, description="newest arrivals that the control plane can list")

    # Its threads spin while they wait for one another: on shared cores one thread is faster than two.
    local_threads: int = Field(default=1, ge=1, description="CPU threads of the local model")
    local_parallel: int = Field(default=2, ge=1, le=8, description="local generations at once; others wait in line")
