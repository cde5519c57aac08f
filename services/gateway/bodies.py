"""Reading what a client sent, strictly and before any work is done."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import FocusError, InvalidRequest

ModelT = TypeVar("ModelT", bound=BaseModel)

_JSON_TYPE = re.compile(r"""application/json(?:\s*;\s*charset\s*=\s*"?utf-8"?)?\s*""", re.IGNORECASE)


class ClientGone(Exception):
    """The client closed the connection before its request was complete, or before its answer was."""


class Bodies:
    """Reads JSON bodies within limits: bytes, and levels of nesting."""

    def __init__(self, *, max_bytes: int, max_depth: int) -> None:
        self._max_bytes = max_bytes
        self._max_depth = max_depth

    async def read(self, request: Request, model: type[ModelT], *, optional: bool = False) -> ModelT:
        """The body as a `model`. With `optional` no body at all is an empty object.

        Raises InvalidRequest: UNSUPPORTED_MEDIA_TYPE, BODY_MALFORMED (too large, not UTF-8, not JSON,
        nested too deeply, a name given twice) or INVALID_ARGUMENT with the field's name.
        """
        if optional and not (body := await self._bytes(request)):
            return model()
        _check_type(request)
        if not optional:
            body = await self._bytes(request)
        return _validated(model, self._parsed(body))

    async def none(self, request: Request) -> None:
        """For routes that take no body: an empty one, or an empty object."""
        body = await self._bytes(request)
        if body.strip() not in (b"", b"{}"):
            raise InvalidRequest("This route takes no body; send none.", ErrorReason.ERROR_REASON_BODY_MALFORMED)

    async def _bytes(self, request: Request) -> bytes:
        length = request.headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > self._max_bytes:
            raise self._too_large()
        received = b""
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            received += bytes(message.get("body", b""))
            if len(received) > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return received

    def _parsed(self, body: bytes) -> dict[str, Any]:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise _malformed(_what_is_wrong(body)) from None
        if not isinstance(value, dict):
            raise _malformed("The body must be a JSON object.")
        if _deeper_than(value, self._max_depth):
            raise _malformed(f"The body is nested deeper than {self._max_depth} levels.")
        # Each member of an object has a colon: only with more colons than members can a name stand twice.
        if body.count(b":") > len(value):
            _check_names(body)
        return value

    def _too_large(self) -> FocusError:
        return InvalidRequest(
            f"The body is larger than {self._max_bytes} bytes.",
            ErrorReason.ERROR_REASON_BODY_MALFORMED,
            metadata={"status": "413"},
        )


def read_query(request: Request, model: type[ModelT]) -> ModelT:
    """The query string as a `model`. Raises InvalidRequest (INVALID_ARGUMENT, with the parameter's name)."""
    query = request.scope["query_string"]
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise InvalidRequest("The query string cannot be read as UTF-8 parameters.") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise InvalidRequest("A query parameter is given twice.")
    return _validated(model, values, strict=False)


def _validated(model: type[ModelT], value: dict[str, Any], *, strict: bool = True) -> ModelT:
    try:
        return model.model_validate(value, strict=strict)
    except ValidationError as err:
        raise _invalid(err.errors(include_url=False, include_input=False, include_context=False)) from None


def _invalid(faults: Sequence[Any]) -> FocusError:
    """One sentence for the first fault; never the value itself."""
    fault = faults[0]
    field = ".".join(str(part) for part in fault["loc"])[:100]
    if not field.isprintable():
        field = ascii(field)
    more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
    message = {"extra_forbidden": "is not known here", "missing": "is missing"}.get(fault["type"], fault["msg"])
    return InvalidRequest(f"{field}: {message}{more}", metadata={"field": field})


def _check_type(request: Request) -> None:
    headers = request.headers
    content_type = headers.get("content-type", "")
    plain = content_type == "application/json" or _JSON_TYPE.fullmatch(content_type) is not None
    if not plain or headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequest(
            "Send the body as 'Content-Type: application/json' in UTF-8, not compressed.",
            ErrorReason.ERROR_REASON_UNSUPPORTED_MEDIA_TYPE,
            metadata={"accept": "application/json"},
        )


def _what_is_wrong(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as err:
        return f"The body is not UTF-8: see byte {err.start}."
    return "The body is not JSON." if body.strip() else "The body is empty; send a JSON object."


def _deeper_than(value: object, levels: int) -> bool:
    children: Sequence[object]
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list):
        children = value
    else:
        return False
    return levels == 0 or any(_deeper_than(child, levels - 1) for child in children)


def _check_names(body: bytes) -> None:
    """Parsers differ in which of two equal names counts (RFC 8259 section 4): so there must be one."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            raise _malformed("The body has a name twice in one object.")
        return names

    json.loads(body, object_pairs_hook=unique)


def _malformed(message: str) -> FocusError:
    return InvalidRequest(message, ErrorReason.ERROR_REASON_BODY_MALFORMED)
