"""Settings that every service has. Read once, in a service's `__main__`."""

from __future__ import annotations

import sys
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings


class ServiceSettings(BaseSettings):
    """The part of the settings that is the same everywhere.

    A service's own class sets `env_prefix` (`FOCUS_SESSION_` and so on), so that
    `grpc_listen` of the session service is `FOCUS_SESSION_GRPC_LISTEN`.
    """

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics_listen: str = Field(default="", description="host:port of /metrics; empty: none")
    drain_seconds: float = Field(
        default=0.0, ge=0, le=300, description="not serving yet still answering, so that balancers notice"
    )
    stop_grace_seconds: float = Field(
        default=150.0, ge=0, le=3600, description="how long running calls may take to end; above the longest stream"
    )


class GrpcSettings(ServiceSettings):
    """A service that is reached over gRPC."""

    grpc_listen: str = Field(default="127.0.0.1:0", description="host:port; port 0: a free one, told in the log")
    reflection: bool = Field(default=False, description="offer gRPC server reflection")
    max_connection_age_seconds: float = Field(
        default=8.0, gt=0, description="short, so that new pods get calls within 10 s"
    )
    max_connection_age_grace_seconds: float = Field(
        default=180.0, gt=0, description="above the longest stream, which it would cut"
    )


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load(settings: type[SettingsT]) -> SettingsT:
    """Reads settings from the environment, or ends the process with one sentence a fault."""
    try:
        return settings()
    except ValidationError as err:
        prefix = settings.model_config.get("env_prefix", "")
        for fault in err.errors(include_url=False, include_input=False):
            name = prefix + "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"setting {name}: {fault['msg']}\n")
        raise SystemExit(2) from None
