"""Sign-up, sign-in, refresh, logout, and API keys."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.types import ASGIApp

from focus.errors.v1.reason_pb2 import ErrorReason
from focus.session.v1 import auth_pb2
from services.gateway import negotiation
from services.gateway.models import ApiKeyBody, ApiKeysView, ApiKeyView, RefreshBody, SignInBody, SignUpBody, TokensView
from services.gateway.openapi import described
from services.gateway.routes.entrance import Entrance
from services.gateway.routes.ids import key_id_of
from services.gateway.session import Session
from services.gateway.views import Json, NoContent, api_key_view, tokens_view

_STORE = ErrorReason.ERROR_REASON_STORE_UNAVAILABLE


def add_auth_routes(router: APIRouter, entrance: Entrance, session: Session) -> None:
    @router.post(
        "/v1/auth/signup",
        tags=["people"],
        **described(
            "Register a person with a tenant of their own",
            answers=TokensView,
            body=SignUpBody,
            fails=(ErrorReason.ERROR_REASON_EMAIL_TAKEN, _STORE),
            secured=False,
            status=201,
        ),
    )
    async def signup(request: Request) -> ASGIApp:
        negotiation.require(request)
        body = await entrance.bodies.read(request, SignUpBody)
        asked = auth_pb2.SignUpRequest(email=body.email, password=body.password, display_name=body.display_name)
        response = await session.call(session.auth.SignUp, asked)
        return Json(tokens_view(response.tokens), status=201)

    @router.post(
        "/v1/auth/token",
        tags=["people"],
        **described(
            "Sign in",
            answers=TokensView,
            body=SignInBody,
            fails=(ErrorReason.ERROR_REASON_SIGN_IN_FAILED, _STORE),
            secured=False,
        ),
    )
    async def token(request: Request) -> ASGIApp:
        negotiation.require(request)
        body = await entrance.bodies.read(request, SignInBody)
        asked = auth_pb2.IssueTokenRequest(email=body.email, password=body.password)
        response = await session.call(session.auth.IssueToken, asked)
        return Json(tokens_view(response.tokens))

    @router.post(
        "/v1/auth/refresh",
        tags=["people"],
        **described(
            "Exchange a refresh token for new tokens",
            answers=TokensView,
            body=RefreshBody,
            fails=(
                ErrorReason.ERROR_REASON_CREDENTIALS_INVALID,
                ErrorReason.ERROR_REASON_REFRESH_TOKEN_REUSED,
                _STORE,
            ),
            secured=False,
        ),
    )
    async def refresh(request: Request) -> ASGIApp:
        negotiation.require(request)
        body = await entrance.bodies.read(request, RefreshBody)
        asked = auth_pb2.RefreshTokenRequest(refresh_token=body.refresh_token)
        response = await session.call(session.auth.RefreshToken, asked)
        return Json(tokens_view(response.tokens))

    @router.post(
        "/v1/auth/logout",
        tags=["people"],
        **described(
            "Revoke a refresh token and everything that came from it",
            answers=None,
            body=RefreshBody,
            fails=(_STORE,),
            secured=False,
            status=204,
        ),
    )
    async def logout(request: Request) -> ASGIApp:
        body = await entrance.bodies.read(request, RefreshBody)
        await session.call(session.auth.Logout, auth_pb2.LogoutRequest(refresh_token=body.refresh_token))
        return NoContent()

    @router.post(
        "/v1/api-keys",
        tags=["people"],
        **described(
            "Make an API key",
            answers=ApiKeyView,
            body=ApiKeyBody,
            fails=(ErrorReason.ERROR_REASON_LIMIT_REACHED,),
            status=201,
        ),
    )
    async def api_key(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        body = await entrance.bodies.read(request, ApiKeyBody)
        asked = auth_pb2.CreateApiKeyRequest(principal=principal.message(), label=body.label)
        response = await session.call(session.auth.CreateApiKey, asked)
        return Json({"key_id": response.key_id, "api_key": response.api_key}, status=201)

    @router.get(
        "/v1/api-keys",
        tags=["people"],
        **described("List your API keys", answers=ApiKeysView),
    )
    async def api_keys(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        negotiation.require(request)
        asked = auth_pb2.ListApiKeysRequest(principal=principal.message())
        found = await session.call(session.auth.ListApiKeys, asked)
        return Json({"keys": [api_key_view(key) for key in found.keys]})

    @router.delete(
        "/v1/api-keys/{key_id}",
        tags=["people"],
        **described(
            "Revoke an API key; servers that know it may still take it for up to three minutes",
            answers=None,
            fails=(ErrorReason.ERROR_REASON_API_KEY_NOT_FOUND,),
            status=204,
        ),
    )
    async def revoke_api_key(request: Request) -> ASGIApp:
        principal = await entrance.principal(request)
        await entrance.bodies.none(request)
        asked = auth_pb2.RevokeApiKeyRequest(principal=principal.message(), key_id=key_id_of(request))
        await session.call(session.auth.RevokeApiKey, asked)
        return NoContent()
