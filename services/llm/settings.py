"""Settings of the llm service, from variables FOCUS_LLM_*."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings
from services.llm.providers.port import Timeouts


class Settings(GrpcSettings):
    """Everything that can be set from outside."""

    model_config = SettingsConfigDict(env_prefix="FOCUS_LLM_", extra="ignore")

    vertex_base_url: str = Field(
        default="https://{location}-aiplatform.googleapis.com", description="of projects whose api is vertex"
    )
    base_url: str = "https://generativelanguage.googleapis.com"
    keys_dir: Path | None = Field(default=None, description="directory of key files `<project>.<label>`; watched")
    api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("FOCUS_LLM_API_KEY", "GEMINI_API_KEY")
    )
    project: str = Field(
        default="default", pattern=r"^[\w:-]+$", description="whose key the one from the environment is"
    )
    catalogue: Path | None = Field(default=None, description="the catalogue's file; default: the packaged example")

    threshold: float = Field(
        default=0.6, ge=0, le=1, description="a junior less sure than this gives way to the senior"
    )
    unstated_confidence: float = Field(
        default=0.5, ge=0, le=1, description="what a junior's confidence counts as where it states none"
    )
    senior_confidence: float = Field(
        default=0.9, ge=0, le=1, description="what a senior's answer counts as, which states no confidence"
    )
    default_max_output_tokens: int = Field(default=0, ge=0, description="0: the model's own limit")
    max_question_tokens: int = Field(default=900_000, gt=0, description="estimated input tokens that are refused above")

    connect_seconds: float = Field(default=3.0, gt=0)
    first_token_seconds: float = Field(default=30.0, gt=0)
    between_tokens_seconds: float = Field(default=20.0, gt=0)
    total_seconds: float = Field(default=120.0, gt=0, description="the longest a call may take, waiting included")
    valkey_url: str = Field(default="", description="the limits' Valkey; empty: this process alone uses the quota")
    valkey_seconds: float = Field(default=0.5, gt=0, description="how long a command may take")
    instance: str = Field(
        default="", description="what this process replaces when it starts again; default: host name and port"
    )
    quota_window_seconds: float = Field(default=60.0, gt=0, description="the provider's minute; shorter in tests")
    quota_guard_seconds: float = Field(
        default=1.0, gt=0, le=1, description="from a grant to the call's arrival at the provider, at most"
    )
    spend_window_seconds: float = Field(default=600.0, gt=0, description="the provider's window for spend")
    lease_seconds: float = Field(
        default=900.0, gt=0, description="how long a process lives on its share when the quota's store is gone"
    )
    silent_seconds: float = Field(default=3.0, gt=0, description="after that a silent process's share is debited")
    roll_call_seconds: float = Field(
        default=1.0, ge=0, description="after its restart the store waits so long for processes to tell their grants"
    )
    most_waiting: int = Field(default=10_000, gt=0, description="calls that may wait for quota, in each tier")

    connections: int = Field(default=1024, gt=0, description="most connections to the provider")
    warm_connections: int = Field(default=4, ge=0)

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @property
    def timeouts(self) -> Timeouts:
        return Timeouts(self.connect_seconds, self.first_token_seconds, self.between_tokens_seconds, self.total_seconds)
