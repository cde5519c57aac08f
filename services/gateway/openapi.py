"""What OpenAPI says of the routes, which read and write by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from focus.errors.v1.reason_pb2 import ErrorReason as Reason
from services.common.errors import reason_name
from services.gateway import models
from services.gateway.problems import TABLE

_REF = "#/components/schemas/{model}"

_BODIES: tuple[type[BaseModel], ...] = (
    models.AskBody,
    models.TurnBody,
    models.EditBody,
    models.RegenerateBody,
    models.CreateConversationBody,
    models.RenameBody,
    models.SignUpBody,
    models.SignInBody,
    models.RefreshBody,
    models.ApiKeyBody,
    models.RetentionBody,
    models.FeedbackBody,
    models.ProblemView,
)

# What every route can answer, and every route that wants to know who asks.
_COMMON = (Reason.ERROR_REASON_OVERLOADED, Reason.ERROR_REASON_INTERNAL)
_SIGNED_IN = (
    Reason.ERROR_REASON_CREDENTIALS_MISSING,
    Reason.ERROR_REASON_CREDENTIALS_INVALID,
    Reason.ERROR_REASON_TOKEN_EXPIRED,
    Reason.ERROR_REASON_STORE_UNAVAILABLE,
)
_WITH_BODY = (
    Reason.ERROR_REASON_INVALID_ARGUMENT,
    Reason.ERROR_REASON_BODY_MALFORMED,
    Reason.ERROR_REASON_UNSUPPORTED_MEDIA_TYPE,
)

_EVENTS = {
    "schema": {
        "type": "string",
        "description": (
            "Events: `queued` {waiting_for, position, expected_wait_ms}, `escalated` {confidence, threshold, model}, "
            "`delta` {text}, `restarted` {} (forget the deltas so far: another answer begins), and last `done` (as "
            "the JSON answer) or `error` (a problem)."
        ),
    },
    "example": 'event: delta\ndata: {"text":"Brasília."}\n\nevent: done\ndata: {"answer":"Brasília.", …}\n\n',
}


def described(
    summary: str,
    *,
    answers: type[BaseModel] | None,
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    fails: Sequence[Reason.ValueType] = (),
    secured: bool = True,
    events: bool = False,
    idempotent: bool = False,
    cached: bool = False,
    status: int = 200,
    accepted: str = "",
) -> dict[str, Any]:
    """Options for a route of FastAPI's router; `accepted` describes a 202 of the same form."""
    reasons = [*(_SIGNED_IN if secured else ()), *(_WITH_BODY if body is not None else ()), *fails, *_COMMON]
    extra: dict[str, Any] = {
        "parameters": [*_query(query), *(_IDEMPOTENCY if idempotent else ()), *(_CACHE_CONTROL if cached else ())]
    }
    if body is not None:
        schema = {"$ref": _REF.format(model=body.__name__)}
        required = any(field.is_required() for field in body.model_fields.values())
        extra["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    if secured:
        extra["security"] = [{"bearer": []}]
    responses = _failures(reasons)
    if accepted:
        responses[202] = {"model": answers, "description": accepted}
    if events:
        responses[200] = {"content": {"text/event-stream": _EVENTS}, "description": "The answer"}
        if cached:
            responses[200]["headers"] = _CACHED_HEADERS
    return {
        "summary": summary,
        "response_model": answers,
        "responses": responses,
        "openapi_extra": extra,
        "status_code": status,
    }


_IDEMPOTENCY = (
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Makes the request safe to repeat for 24 h: a repeat gets the saved outcome, "
        "with `Idempotency-Replayed: true`.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
)

_CACHE_CONTROL = (
    {
        "name": "Cache-Control",
        "in": "header",
        "required": False,
        "description": "`no-cache`: generate anew; `no-store`: and keep nothing; `max-age=N`: nothing older than "
        "N seconds; `only-if-cached`: nothing but a stored answer (RFC 9111).",
        "schema": {"type": "string"},
    },
)

_CACHED_HEADERS = {
    "X-Cache": {
        "description": "Where the answer comes from, as `cache` in the body; on a stream, where it began to come from.",
        "schema": {"type": "string", "enum": ["hit", "miss", "stale", "coalesced", "bypass"]},
    },
    "Age": {"description": "Seconds since a stored answer was stored.", "schema": {"type": "integer"}},
}


def _query(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema()
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": shape}
        for name, shape in schema["properties"].items()
    ]


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _failures(reasons: Sequence[Reason.ValueType]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[Reason.ValueType]] = {}
    for reason in reasons:
        by_status.setdefault(TABLE[reason][0], []).append(reason)
    return {
        status: {
            "description": "; ".join(f"`{reason_name(one).lower()}`: {TABLE[one][1]}" for one in group),
            "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemView")}}},
        }
        for status, group in sorted(by_status.items())
    }


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with the models that it does not see and the one security scheme."""
    told = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    for path, operations in told["paths"].items():
        for operation in operations.values():
            operation["parameters"] = [*_in_path(path), *operation.get("parameters", ())]
    _, schemas = models_json_schema([(model, "validation") for model in _BODIES], ref_template=_REF)
    components = told.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas["$defs"])
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, or an API key (`fk_…`)."}
    }
    return told
