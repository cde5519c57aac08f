"""Settings of the session service: `FOCUS_SESSION_…`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings


class DatabaseSettings(GrpcSettings):
    """Where PostgreSQL is; all that the migration command needs."""

    model_config = SettingsConfigDict(env_prefix="FOCUS_SESSION_")

    database_url: str = Field(description="postgresql://user:password@host:port/database")


class SessionSettings(DatabaseSettings):
    """Everything that the service itself needs."""

    database_pool_size: int = Field(default=10, ge=1, le=200, description="connections a process opens at most")
    database_timeout_seconds: float = Field(
        default=0.9, gt=0, le=60, description="a call's share of the database, connecting included; then 503"
    )
    database_prepared_statements: Literal["auto", "on", "off"] = Field(
        default="auto", description="named prepared statements; auto: off behind a connection pooler"
    )
    valkey_url: str = Field(description="redis://host:port/db of the limits' Valkey: queues and wake-ups")
    valkey_timeout_seconds: float = Field(default=0.25, gt=0, le=10, description="then PostgreSQL alone keeps order")

    signing_keys_dir: Path = Field(description="directory of private JWKs that sign access tokens; watched")
    issuer: str = Field(default="https://focus.local", description="iss of access tokens")
    audience: str = Field(default="focus", description="aud of access tokens")
    region: str = Field(
        default="local", pattern=r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$", description="first part of new conversations' ids"
    )

    password_memory_kib: int = Field(default=19 * 1024, ge=8, le=1 << 21, description="memory of one password digest")
    password_passes: int = Field(default=2, ge=1, le=100, description="passes over that memory (Argon2id's t)")
    password_lanes: int = Field(default=1, ge=1, le=16, description="Argon2id's p")
    password_threads: int = Field(default=1, ge=1, le=64, description="password digests computed at once")
    max_sign_ins_waiting: int = Field(default=64, ge=1, le=10_000, description="for their digest; more are sent away")
    max_api_keys: int = Field(default=20, ge=1, le=10_000, description="unrevoked API keys of one person")

    holder_ttl_seconds: float = Field(default=2.0, ge=0.1, le=60, description="a lease outlives its holder by this")
    max_turn_seconds: float = Field(default=300.0, ge=10, description="a lease ends then even if its holder lives")
    max_queue: int = Field(default=64, ge=1, le=1000, description="turns that wait for one conversation")
    history_token_budget: int = Field(default=8_000, ge=0, description="history given where the caller names no budget")
    history_max_turns: int = Field(default=200, ge=1, description="turns of history at most, whatever the budget")
    max_question_chars: int = Field(default=100_000, ge=1, description="characters of a question")
    max_answer_chars: int = Field(default=1_000_000, ge=1, description="characters of an answer; the rest is cut")
    max_turns: int = Field(default=10_000, ge=1, description="turns in one conversation")
    max_conversations: int = Field(default=10_000, ge=1, description="conversations of one person, deleted ones apart")
    idempotency_hours: float = Field(default=24.0, gt=0, description="how long an Idempotency-Key is remembered")
    undelete_days: float = Field(default=30.0, ge=0, description="how long a deleted conversation can be restored")
    sweep_seconds: float = Field(default=30.0, gt=0, description="pause between two sweeps of what has expired")
    ledger_seconds: float = Field(default=1.0, gt=0, description="pause between two looks for calls to be booked")
    index_seconds: float = Field(default=1.0, gt=0, description="pause between two rounds of indexing new turns")
