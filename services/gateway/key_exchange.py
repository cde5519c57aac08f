"""An API key for an access token, from the session service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus.session.v1 import auth_pb2
from services.common.rpc import client

if TYPE_CHECKING:
    from focus.session.v1.auth_pb2_grpc import AuthServiceAsyncStub

TIMEOUT_SECONDS = 3.0


class KeyExchange:
    """AuthService.ExchangeApiKey, as `Principals` wants it."""

    def __init__(self, auth: AuthServiceAsyncStub) -> None:
        self._auth = auth

    async def __call__(self, api_key: str) -> tuple[str, float]:
        """The access token and the seconds until it expires. Raises what the service raised."""
        request = auth_pb2.ExchangeApiKeyRequest(api_key=api_key)
        response = await client.unary(self._auth.ExchangeApiKey, request, timeout=TIMEOUT_SECONDS)
        return response.tokens.access_token, float(response.tokens.expires_in)
