"""The request's Cache-Control, and what the answer says of the cache (RFC 9111)."""

from __future__ import annotations

import re

from prometheus_client import Counter
from starlette.requests import Request

from focus.cache.v1 import cache_pb2
from services.common.errors import InvalidRequest
from services.flow.question import CacheUse

ANSWERS = Counter("focus_gateway_answers_total", "Answers, by where they came from.", ["cache"])

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+)"'
# One of a list, whose elements may be empty (RFC 9110 section 5.6.1). Nothing is tried twice.
_DIRECTIVE = re.compile(rf"[ \t]*+(?:({_NAME})(?:=(?:({_NAME})|{_QUOTED}))?[ \t]*+)?(?:,|$)")
_DIGITS = re.compile(r"[0-9]+")
# What a client that has no bound of its own sends in place of one (RFC 9111 section 1.2.2).
_MOST_SECONDS = 2**31
_PLAIN = ("no-cache", "no-store", "only-if-cached")


def of(request: Request) -> cache_pb2.CacheControl:
    """The directives that mean something here; others are left alone, as section 5.2 wants.

    Of several max-age the smallest counts. Raises InvalidRequest where the field, or the
    argument of one of ours, does not follow the grammar: an answer that the client did
    not want would be worse.
    """
    control = cache_pb2.CacheControl()
    lines = request.headers.getlist("cache-control")
    if lines:
        for name, argument in _directives(",".join(lines)):
            if name == "max-age":
                if argument is None or _DIGITS.fullmatch(argument) is None:
                    raise _malformed("max-age needs a number of whole seconds, such as max-age=60.")
                seconds = _MOST_SECONDS if len(argument) > 10 else min(int(argument), _MOST_SECONDS)
                if control.HasField("max_age_seconds"):
                    seconds = min(seconds, control.max_age_seconds)
                control.max_age_seconds = seconds
            elif name in _PLAIN:
                if argument is not None:
                    raise _malformed(f"{name} takes no argument.")
                setattr(control, name.replace("-", "_"), True)
    return control


def told(use: CacheUse, age: int | None) -> list[tuple[bytes, bytes]]:
    """X-Cache, and Age (section 5.1) where the answer was stored, for one answer that is given; counts it."""
    ANSWERS.labels(use).inc()
    headers = [(b"x-cache", use.encode())]
    if age is not None:
        headers.append((b"age", str(age).encode()))
    return headers


def _directives(field: str) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    at = 0
    while at < len(field):
        match = _DIRECTIVE.match(field, at)
        if match is None:
            raise _malformed("it is not a list of directives.")
        name, token, quoted = match.groups()
        if name is not None:
            found.append((name.lower(), token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)))
        at = match.end()
    return found


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"Cache-Control: {why}", metadata={"field": "Cache-Control"})
