"""Settings of the cache service: `FOCUS_CACHE_…`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings


class CacheSettings(GrpcSettings):
    model_config = SettingsConfigDict(env_prefix="FOCUS_CACHE_")

    valkey_url: str = Field(description="redis://host:port/db of the cache's own Valkey, or any node of its cluster")
    secrets_dir: Path = Field(description="watched directory; see `vault`")
    rules_dir: Path | None = Field(default=None, description="rule files to use instead of the service's own")
    valkey_timeout_seconds: float = Field(
        default=0.02, gt=0, le=1, description="what a look-up may wait for Valkey before it goes on without"
    )
    min_confidence: float = Field(default=0.5, ge=0, le=1, description="answers under it are not kept")
    ttl_seconds: int = Field(default=3600, ge=1, le=86_400, description="how long an answer lives at first")
    max_ttl_seconds: int = Field(default=86_400, ge=1, le=86_400, description="and at most, however often it is used")
    stale_while_revalidate_seconds: int = Field(
        default=3600, ge=0, le=86_400, description="how long an answer is given after its end while it is refreshed"
    )
    stale_if_error_seconds: int = Field(
        default=86_400, ge=0, le=86_400, description="how long after its end it is given when generating fails"
    )
    refresh_beta: float = Field(default=1.0, ge=0, le=10, description="XFetch's; over 1 refreshes earlier")
    compress_above_bytes: int = Field(default=1024, ge=0, description="larger values are compressed")
    max_value_bytes: int = Field(default=1 << 20, ge=1024, le=8 << 20, description="larger values are not kept")
    max_question_bytes: int = Field(default=1 << 18, ge=1, description="text and system instruction, in UTF-8")
    local_bytes: int = Field(default=64 << 20, ge=0, description="memory for answers while Valkey is gone, about")
    max_followers: int = Field(default=10_000, ge=1, description="followers of others' fills on this replica")
