"""Google's routes: authenticate, read, let faults strike, ask the quota, deliver."""

import asyncio
import json
import logging
from typing import Any

from aiohttp import web

from devstack.gemini import catalogue, delivery, errors, wire
from devstack.gemini.ask import Ask
from devstack.gemini.emulator import Emulator
from devstack.gemini.errors import ApiError
from devstack.gemini.faults import Effect
from devstack.gemini.stats import UNKNOWN_KEY

log = logging.getLogger("devstack.gemini")

EMULATOR: web.AppKey[Emulator] = web.AppKey("emulator", Emulator)

NOT_FOUND_PAGE = (
    "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    "<p>The requested URL <code>{path}</code> was not found on this server.\n</html>\n"
)


def routes() -> list[web.RouteDef]:
    """The routes of v1 and v1beta."""
    version = "/{version:v1|v1beta}"
    return [
        web.post(version + "/models/{call:[^/]+}", call_model),
        web.get(version + "/models", list_models),
        web.get(version + "/models/{model:[^/:]+}", get_model),
    ]


async def list_models(request: web.Request) -> web.StreamResponse:
    """models.list with pageSize (1..1000, default 50) and pageToken."""
    emulator = request.app[EMULATOR]
    try:
        _authenticate(emulator, request)
        size = _whole_number(request.query.get("pageSize"), 50)
        begin = _whole_number(request.query.get("pageToken"), 0)
    except ApiError as error:
        return _error(error)
    models = emulator.settings.models
    body: dict[str, Any] = {"models": [catalogue.describe(model) for model in models[begin : begin + size]]}
    if begin + size < len(models):
        body["nextPageToken"] = str(begin + size)
    return _json(body)


async def get_model(request: web.Request) -> web.StreamResponse:
    """models.get; 404 for a model that does not exist."""
    emulator = request.app[EMULATOR]
    model = request.match_info["model"]
    try:
        _authenticate(emulator, request)
        if not emulator.has_model(model):
            raise errors.no_model(model, request.match_info["version"], "generateContent")
    except ApiError as error:
        return _error(error)
    return _json(catalogue.describe(model))


async def call_model(request: web.Request) -> web.StreamResponse:
    """generateContent, streamGenerateContent and countTokens."""
    emulator = request.app[EMULATOR]
    model, colon, method = request.match_info["call"].rpartition(":")
    if not colon or method not in ("generateContent", "streamGenerateContent", "countTokens"):
        return not_found(request)
    stats = emulator.stats
    key = _key(request)
    named = key if key is not None and emulator.keys.knows(key) else UNKNOWN_KEY
    project = UNKNOWN_KEY
    stats.enter()
    try:
        project = _authenticate(emulator, request)
        if not emulator.has_model(model):
            raise errors.no_model(model, request.match_info["version"], method)
        body = await _read_body(request)
        if method == "countTokens":
            total = wire.read_count(model, body)
            return _json({"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]})
        ask = wire.read_generate(model, body)
        effect = emulator.faults.strike(model, project, named)
        _admit(emulator, project, ask, effect)
        stats.decided(project, model, named, 200, ask.prompt_tokens)
        return await _deliver(request, emulator, project, ask, effect, stream=method == "streamGenerateContent")
    except ApiError as error:
        stats.decided(project, model, named, error.code, 0)
        # A stream without alt=sse is an array, and so are its errors.
        return _error(error, in_array=method == "streamGenerateContent" and request.query.get("alt") != "sse")
    except asyncio.CancelledError:
        stats.cancelled(project, model)
        raise
    except ConnectionError:
        stats.cancelled(project, model)
        return web.Response(status=499)
    except delivery.Severed:
        return web.Response(status=499)
    finally:
        stats.leave()


def not_found(request: web.Request) -> web.Response:
    """Google's page for a path that does not exist."""
    path = request.path.replace("&", "&amp;").replace("<", "&lt;")
    return web.Response(status=404, text=NOT_FOUND_PAGE.format(path=path), content_type="text/html")


async def _deliver(
    request: web.Request, emulator: Emulator, project: str, ask: Ask, effect: Effect | None, *, stream: bool
) -> web.StreamResponse:
    response: web.StreamResponse
    if stream:
        sse = request.query.get("alt") == "sse"
        response, usage = await delivery.streamed(request, ask, emulator.backend, effect, sse=sse)
    else:
        response, usage = await delivery.whole(request, ask, emulator.backend, effect)
    emulator.stats.answered(project, ask.model, usage.prompt, usage.cached, usage.candidates, usage.thoughts)
    emulator.spend.book(project, ask.model, usage.prompt, usage.output)
    return response


def _admit(emulator: Emulator, project: str, ask: Ask, effect: Effect | None) -> None:
    """Counts the request against its quota. Raises ApiError 429, or whatever status a fault wants."""
    retry_info = effect.retry_info if effect is not None else None
    exact = emulator.retry_delay_exact
    if effect is not None and effect.status is not None and effect.error_after_chunks is None:
        if effect.status == 429 and effect.quota != "spend":
            violations = [emulator.quota.invented(project, ask.model, effect.quota)]
            raise errors.exhausted(ask.model, violations, retry_info=retry_info, exact=exact)
        if effect.status >= 500:
            # A request that fails inside Google has arrived all the same, and counts.
            emulator.quota.admit(project, ask.model, ask.prompt_tokens)
        raise errors.by_status(effect.status)
    if emulator.spend.reached(project):
        raise errors.spend_exhausted()
    violations = emulator.quota.admit(project, ask.model, ask.prompt_tokens)
    if violations:
        raise errors.exhausted(ask.model, violations, retry_info=retry_info, exact=exact)


def _key(request: web.Request) -> str | None:
    return request.headers.get("x-goog-api-key") or request.query.get("key")


def _authenticate(emulator: Emulator, request: web.Request) -> str:
    """The caller's project. Raises ApiError 400, 401 or 403."""
    key = _key(request)
    if key is None and "Authorization" in request.headers:
        raise errors.bearer_refused()
    return emulator.keys.project(key)


async def _read_body(request: web.Request) -> bytes:
    """The body. Raises ApiError 400 above 20 MiB, before it is read where the length is declared."""
    too_large = errors.invalid_argument(f"Request payload size exceeds the limit: {wire.MAX_BODY_BYTES} bytes.")
    if (request.content_length or 0) > wire.MAX_BODY_BYTES:
        raise too_large
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None


def _whole_number(given: str | None, default: int) -> int:
    if given is None or given == "":
        return default
    if not given.isascii() or not given.isdigit():
        raise errors.invalid_argument("Request contains an invalid argument.")
    return int(given) or default


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(body=json.dumps(body, indent=2).encode(), headers=delivery.JSON_HEADERS)


def _error(error: ApiError, *, in_array: bool = False) -> web.Response:
    body = b"[" + error.body + b"]\n" if in_array else error.body
    return web.Response(status=error.code, body=body, headers=delivery.JSON_HEADERS)
