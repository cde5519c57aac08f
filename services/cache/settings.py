"""Settings of the cache service: `FOCUS_CACHE_…`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings


class CacheSettings(GrpcSettings):
    model_config = SettingsConfigDict(env_prefix="FOCUS_CACHE_")

    valkey_url: str = Field(description="redis://host:port/db of the cache's own Valkey (LFU eviction)")
    secrets_dir: Path = Field(description="watched directory; file `hmac`: the secret of the keys, 16 bytes or more")
    valkey_timeout_seconds: float = Field(
        default=0.02, gt=0, le=1, description="what a look-up may wait for Valkey before it is a miss"
    )
    min_confidence: float = Field(default=0.5, ge=0, le=1, description="answers under it are not kept")
    ttl_seconds: int = Field(default=3600, ge=1, le=86_400, description="how long an answer lives")
    compress_above_bytes: int = Field(default=1024, ge=0, description="larger values are compressed")
    max_value_bytes: int = Field(default=1 << 20, ge=1024, description="larger values are not kept")
    max_question_bytes: int = Field(default=1 << 18, ge=1, description="text and system instruction, in UTF-8")
