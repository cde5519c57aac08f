"""AuthService over gRPC."""

from __future__ import annotations

from typing import Any

import grpc

from focus.chat.v1 import chat_pb2
from focus.session.v1 import auth_pb2, auth_pb2_grpc
from services.session.messages import timestamp
from services.session.people import ApiKey, People, Person, Tokens

Context = grpc.aio.ServicerContext[Any, Any]


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """Translates between protobuf and `People`; errors are translated around it."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def SignUp(self, request: auth_pb2.SignUpRequest, context: Context) -> auth_pb2.SignUpResponse:
        tokens = await self._people.sign_up(request.email, request.password, request.display_name)
        return auth_pb2.SignUpResponse(tokens=_token_set(tokens))

    async def IssueToken(self, request: auth_pb2.IssueTokenRequest, context: Context) -> auth_pb2.IssueTokenResponse:
        tokens = await self._people.issue_token(request.email, request.password)
        return auth_pb2.IssueTokenResponse(tokens=_token_set(tokens))

    async def RefreshToken(
        self, request: auth_pb2.RefreshTokenRequest, context: Context
    ) -> auth_pb2.RefreshTokenResponse:
        tokens = await self._people.refresh(request.refresh_token)
        return auth_pb2.RefreshTokenResponse(tokens=_token_set(tokens))

    async def Logout(self, request: auth_pb2.LogoutRequest, context: Context) -> auth_pb2.LogoutResponse:
        await self._people.logout(request.refresh_token)
        return auth_pb2.LogoutResponse()

    async def CreateApiKey(
        self, request: auth_pb2.CreateApiKeyRequest, context: Context
    ) -> auth_pb2.CreateApiKeyResponse:
        key_id, api_key = await self._people.create_api_key(_person(request.principal), request.label)
        return auth_pb2.CreateApiKeyResponse(key_id=key_id, api_key=api_key)

    async def ListApiKeys(self, request: auth_pb2.ListApiKeysRequest, context: Context) -> auth_pb2.ListApiKeysResponse:
        keys = await self._people.api_keys(_person(request.principal))
        return auth_pb2.ListApiKeysResponse(keys=[_api_key(key) for key in keys])

    async def RevokeApiKey(
        self, request: auth_pb2.RevokeApiKeyRequest, context: Context
    ) -> auth_pb2.RevokeApiKeyResponse:
        await self._people.revoke_api_key(_person(request.principal), request.key_id)
        return auth_pb2.RevokeApiKeyResponse()

    async def ExchangeApiKey(
        self, request: auth_pb2.ExchangeApiKeyRequest, context: Context
    ) -> auth_pb2.ExchangeApiKeyResponse:
        tokens = await self._people.exchange_api_key(request.api_key)
        return auth_pb2.ExchangeApiKeyResponse(tokens=_token_set(tokens))


def _person(principal: chat_pb2.Principal) -> Person:
    return Person(principal.tenant_id, principal.person_id)


def _api_key(key: ApiKey) -> auth_pb2.ApiKey:
    return auth_pb2.ApiKey(
        key_id=key.key_id,
        label=key.label,
        created_at=timestamp(key.created_at),
        last_used_at=None if key.last_used_at is None else timestamp(key.last_used_at),
    )


def _token_set(tokens: Tokens) -> auth_pb2.TokenSet:
    return auth_pb2.TokenSet(
        access_token=tokens.access_token,
        expires_in=tokens.expires_in,
        refresh_token=tokens.refresh_token,
        principal=chat_pb2.Principal(tenant_id=tokens.person.tenant_id, person_id=tokens.person.person_id),
    )
