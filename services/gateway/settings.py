"""Settings of the gateway, read once in `__main__` from FOCUS_GATEWAY_*."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Where the gateway listens, whom it calls, and what it puts up with."""

    model_config = SettingsConfigDict(env_prefix="FOCUS_GATEWAY_")

    listen: str = Field(default="127.0.0.1:8080", description="host:port; port 0: a free one, told in the log")
    session_target: str = Field(default="127.0.0.1:7001", description="host:port of the session service")
    cache_target: str = Field(default="127.0.0.1:7002", description="host:port of the cache service")
    llm_target: str = Field(default="127.0.0.1:7003", description="host:port of the llm service")
    jwks_dir: Path = Field(description="directory of JWK sets (*.json) that sign access tokens; watched")
    issuer: str = "https://focus.local"
    audience: str = "focus"

    request_seconds: float = Field(default=120.0, gt=0, le=900, description="the deadline of a question")
    call_seconds: float = Field(default=3.0, gt=0, description="the longest wait for a call that asks no model")
    max_question_chars: int = Field(default=32_000, ge=1, le=1_000_000)
    max_system_chars: int = Field(default=16_000, ge=0, le=1_000_000)
    max_head_bytes: int = Field(default=32 << 10, ge=1024, le=1 << 20, description="first line and header fields")
    max_body_bytes: int = Field(default=1 << 20, ge=1024, le=64 << 20)
    max_body_depth: int = Field(default=16, ge=1, le=512)
    max_concurrent_requests: int = Field(default=1000, ge=1, description="per process; above it: OVERLOADED")

    learn_questions: bool = Field(
        default=True, description="the cache may keep questions that stand alone, encrypted, to be warmed with them"
    )

    header_seconds: float = Field(default=10.0, gt=0, description="how long a request's head may take to arrive")
    body_seconds: float = Field(default=30.0, gt=0, description="how long its body may take after that")
    keep_alive_seconds: int = Field(default=75, ge=1, description="how long an idle connection is kept")
    unread_seconds: float = Field(default=60.0, gt=0, description="how long a client may leave its answer unread")
    heartbeat_seconds: float = Field(default=15.0, gt=0, description="silence on an event stream before a comment")

    allowed_hosts: list[str] = Field(default=[], description="names accepted in Host, without port; empty: any")
    access_log: Literal["none", "errors", "all"] = Field(default="errors", description="one line a request")
    assets_dir: Path = Field(default=Path(__file__).parent / "assets", description="the built web page")
