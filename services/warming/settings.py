"""Settings of a warming run: `FOCUS_WARMING_…`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class WarmingSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="FOCUS_WARMING_")

    cache_target: str = Field(description="host:port of the cache service")
    llm_target: str = Field(description="host:port of the llm service")
    questions_file: Path | None = Field(default=None, description="common questions, one a line; # begins a comment")
    tenants: list[str] = Field(
        default=[], description='whose cache is warmed, as ["id", …]; none: those whose popular questions are known'
    )
    popular: int = Field(default=100, ge=0, le=1000, description="how many popular questions of each tenant; 0: none")
    ahead_seconds: int = Field(default=3600, ge=1, le=86_400, description="refresh what ends within so long")
    share: float = Field(default=0.1, gt=0, le=0.5, description="most of the provider's quota that warming may use")
    unlimited_per_minute: float = Field(default=60.0, gt=0, description="calls a minute where no quota is known")
    between: str = Field(
        default="", pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$",
        description="only within these hours, UTC, such as 01:00-05:30; empty: at once",
    )  # fmt: skip
    question_seconds: float = Field(default=120.0, gt=0, le=3600, description="most seconds for one answer")
