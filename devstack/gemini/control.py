"""The control plane ``/_emulator/``, for tests and benchmarks only. It needs no key.

GET  stats      counts, windows, peaks; ``?arrivals=1&since=<epoch>`` adds the list of arrivals, ``quota`` what is used
GET  state      keys, limits, faults in force
POST faults     {"faults": [Fault, ...], "replace": true}; DELETE faults?name=... ends one, without a name all
POST keys       {"add": [{"project","key"}], "remove": [key], "leaked": [key], "healthy": [key]}
POST limits     {"limits", "window_seconds", "window_kind", "free_tier", "spend_cap_usd", "spend_window_seconds"}
POST script     {"rules": [Rule, ...], "append": false}; scripted backend only, else 409
POST reset      {"only": ["stats", "quota", "faults", "script", "settings"]}; without ``only`` everything

A body that does not fit is answered 422 with the reasons.
"""

import json
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devstack.gemini.emulator import Emulator
from devstack.gemini.faults import Fault
from devstack.gemini.routes import EMULATOR
from devstack.gemini.script import Rule, Script
from devstack.gemini.scripted import ScriptedBackend
from devstack.gemini.settings import Limits, WindowKind

Part = Literal["stats", "quota", "faults", "script", "settings"]
ALL_PARTS: list[Part] = ["settings", "stats", "quota", "faults", "script"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FaultsBody(_Body):
    """Faults to put in force; ``replace`` ends those that are."""

    faults: list[Fault]
    replace: bool = True


class OwnedKey(_Body):
    """A key of a project."""

    project: str
    key: str


class KeysBody(_Body):
    """Changes to the key ring."""

    add: list[OwnedKey] = Field(default_factory=list)
    remove: list[str] = Field(default_factory=list)
    leaked: list[str] = Field(default_factory=list)
    healthy: list[str] = Field(default_factory=list)


class LimitsBody(_Body):
    """Changes to limits; what is not given stays. A new window length or kind forgets what was used."""

    limits: Limits | None = None
    window_seconds: float | None = Field(default=None, gt=0)
    window_kind: WindowKind | None = None
    free_tier: bool | None = None
    spend_cap_usd: float | None = Field(default=None, ge=0)
    spend_window_seconds: float | None = Field(default=None, gt=0)


class ScriptBody(_Body):
    """A new script; ``append`` puts it in front of the present one instead of in its place."""

    rules: list[Rule]
    append: bool = False


class ResetBody(_Body):
    """What to reset; without ``only`` everything."""

    only: list[Part] = Field(default_factory=lambda: list(ALL_PARTS))


Body = TypeVar("Body", bound=_Body)


def routes() -> list[web.RouteDef]:
    """The control plane's routes."""
    return [
        web.get("/_emulator/stats", get_stats),
        web.get("/_emulator/state", get_state),
        web.post("/_emulator/faults", post_faults),
        web.delete("/_emulator/faults", delete_faults),
        web.post("/_emulator/keys", post_keys),
        web.post("/_emulator/limits", post_limits),
        web.post("/_emulator/script", post_script),
        web.post("/_emulator/reset", post_reset),
    ]


async def get_stats(request: web.Request) -> web.Response:
    """Everything that was counted."""
    emulator = request.app[EMULATOR]
    report = {**emulator.stats.report(), "quota": emulator.quota.use()}
    if request.query.get("arrivals"):
        report["arrival_list"] = emulator.stats.arrival_list(float(request.query.get("since") or 0))
    return web.json_response(report)


async def get_state(request: web.Request) -> web.Response:
    """Everything that can be set."""
    return web.json_response(_state(request.app[EMULATOR]))


async def post_faults(request: web.Request) -> web.Response:
    """Puts faults in force."""
    body = await _read(request, FaultsBody)
    faults = request.app[EMULATOR].faults
    if body.replace:
        faults.clear()
    faults.add(body.faults)
    return web.json_response({"faults": faults.listing()})


async def delete_faults(request: web.Request) -> web.Response:
    """Ends faults."""
    faults = request.app[EMULATOR].faults
    faults.clear(request.query.get("name"))
    return web.json_response({"faults": faults.listing()})


async def post_keys(request: web.Request) -> web.Response:
    """Changes the key ring."""
    body = await _read(request, KeysBody)
    keys = request.app[EMULATOR].keys
    for owned in body.add:
        keys.add(owned.project, owned.key)
    for key in body.remove:
        keys.remove(key)
    for key in body.leaked:
        keys.mark_leaked(key)
    for key in body.healthy:
        keys.mark_healthy(key)
    return web.json_response({"keys": keys.listing()})


async def post_limits(request: web.Request) -> web.Response:
    """Changes limits and windows."""
    body = await _read(request, LimitsBody)
    emulator = request.app[EMULATOR]
    given = body.model_fields_set
    quota, spend = emulator.quota, emulator.spend
    if body.window_seconds is not None or body.window_kind is not None:
        quota.window_seconds = body.window_seconds or quota.window_seconds
        quota.window_kind = body.window_kind or quota.window_kind
        quota.reset()
        emulator.stats.window_seconds = quota.window_seconds
        emulator.stats.reset()
    if body.free_tier is not None:
        quota.free_tier = body.free_tier
    quota.change(body.limits if body.limits is not None else quota.limits)
    if "spend_cap_usd" in given:
        spend.cap_usd = body.spend_cap_usd
    if body.spend_window_seconds is not None:
        spend.window_seconds = body.spend_window_seconds
    return web.json_response(_state(emulator))


async def post_script(request: web.Request) -> web.Response:
    """Changes the script."""
    body = await _read(request, ScriptBody)
    backend = request.app[EMULATOR].backend
    if not isinstance(backend, ScriptedBackend):
        return web.json_response({"error": "the local backend has no script"}, status=409)
    backend.load(Script(rules=body.rules), append=body.append)
    return web.json_response({"rules": len(body.rules)})


async def post_reset(request: web.Request) -> web.Response:
    """Back to the start, wholly or in parts."""
    body = await _read(request, ResetBody)
    emulator = request.app[EMULATOR]
    for part in body.only:
        match part:
            case "settings":
                emulator.restore()
            case "stats":
                emulator.stats.reset()
            case "quota":
                emulator.quota.reset()
                emulator.spend.reset()
            case "faults":
                emulator.faults.clear()
            case "script":
                if isinstance(emulator.backend, ScriptedBackend):
                    emulator.backend.load(Script())
    return web.json_response({"reset": body.only})


async def _read(request: web.Request, model: type[Body]) -> Body:
    raw = await request.read()
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        reasons = error.errors(include_url=False, include_context=False, include_input=False)
        raise web.HTTPUnprocessableEntity(
            text=json.dumps({"error": reasons}), content_type="application/json"
        ) from None


def _state(emulator: Emulator) -> dict[str, Any]:
    quota = emulator.quota
    return {
        "backend": emulator.settings.backend,
        "models": emulator.settings.models,
        "keys": emulator.keys.listing(),
        "window_seconds": quota.window_seconds,
        "window_kind": quota.window_kind,
        "free_tier": quota.free_tier,
        "limits": {
            project: {model: limit.model_dump() for model, limit in by_model.items()}
            for project, by_model in quota.limits.items()
        },
        "spend_cap_usd": emulator.spend.cap_usd,
        "spend_window_seconds": emulator.spend.window_seconds,
        "faults": emulator.faults.listing(),
    }
