"""Settings that every service has. Read once, in a service's `__main__`."""

from __future__ import annotations

import sys
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsError


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
        for fault in err.errors(include_url=False, include_input=False):
            sys.stderr.write(f"setting {_variable(settings, fault['loc'])}: {fault['msg']}\n")
        raise SystemExit(2) from None
    except SettingsError as err:
        sys.stderr.write(f"settings: {err}; a list or object is written as JSON\n")
        raise SystemExit(2) from None


def _variable(settings: type[BaseSettings], location: tuple[int | str, ...]) -> str:
    """The environment variable that a fault is about."""
    name = "_".join(str(part) for part in location).upper()
    # An alias is a variable's whole name.
    own = not location or location[0] in settings.model_fields
    return settings.model_config.get("env_prefix", "") + name if own else name
