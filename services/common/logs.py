"""JSON logs, one object a line on standard error, secrets redacted.

Every line carries service, level, time (RFC 3339, UTC) and, inside a request,
request_id, trace_id and tenant_id. Redaction is by the name of a field and by the
look of a value, so that a key inside an exception's text does not get out either.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from services.common import context

REDACTED = "[redacted]"

_SECRET_NAMES = re.compile(
    r"(authorization|password|passwd|secret|token|api[-_]?key|x-goog-api-key|cookie|private[-_]?key|credential)",
    re.IGNORECASE,
)
# Counts and lifetimes are no secrets, though their names hold the word.
_HARMLESS_NAMES = re.compile(r"(tokens$|_tokens_|token_budget$|token_count$|expires)", re.IGNORECASE)
_SECRET_VALUES = re.compile(
    r"AIza[0-9A-Za-z_\-]{20,}"  # Google API keys
    r"|AQ\.[0-9A-Za-z_\-]{20,}"  # Google's newer express keys
    r"|fk_[0-9A-Za-z_\-]{8,}"  # our API keys
    r"|f[rs]_[0-9A-Za-z_\-]{8,}"  # our refresh tokens and the secrets of share links
    r"|eyJ[0-9A-Za-z_\-]{8,}\.[0-9A-Za-z_\-]+\.[0-9A-Za-z_\-]*"  # JWTs
    r"|(?i:bearer\s+)[0-9A-Za-z_\-.~+/=]{8,}"
    r"|(?<=://)[^/\s:@]*:[^/\s]+(?=@)"  # user:password of a URL, up to its last @
    r"|(?:(?<=[?&]key=)|(?<=token=)|(?<=secret=)|(?<=password=))[^&\s\"']+"
    r"|(?:(?<=[\"']password[\"']: [\"'])|(?<=[\"']password[\"']:[\"']))[^\"']+"  # a body quoted in an error
)

Event = MutableMapping[str, Any]


def redact_text(text: str) -> str:
    """The text with everything that looks like a credential replaced."""
    return _SECRET_VALUES.sub(REDACTED, text)


def _redact(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if _SECRET_NAMES.search(name) and not _HARMLESS_NAMES.search(name):
            return REDACTED
        return redact_text(value)
    if isinstance(value, bytes):
        return REDACTED if _SECRET_NAMES.search(name) else redact_text(repr(value))
    if isinstance(value, Mapping):
        return {key: _redact(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(name, item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))


def _redact_event(_logger: Any, _method: str, event: Event) -> Event:
    return {name: _redact(name, value) for name, value in event.items()}


def _add_call(_logger: Any, _method: str, event: Event) -> Event:
    call = context.current()
    if call is not None:
        event["request_id"] = call.request_id
        event["trace_id"] = call.trace_id
        if call.tenant_id:
            event["tenant_id"] = call.tenant_id
    return event


def configure(service: str, level: str = "info") -> None:
    """Sets up structlog and the standard library's logging. Called once, by `__main__`."""

    def add_service(_logger: Any, _method: str, event: Event) -> Event:
        event["service"] = service
        return event

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        add_service,
        _add_call,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    last: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _redact_event,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; call it as `log.info("what happened", field=value)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
