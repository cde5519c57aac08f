"""What all routes are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from services.common import context
from services.common.errors import Unauthenticated
from services.gateway.bodies import Bodies
from services.gateway.tokens import Principal


class Authenticator(Protocol):
    """Knows who is asking."""

    async def authenticate(self, header: str | None) -> Principal: ...


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who asks, and what was sent: the two things to know before any work."""

    authenticator: Authenticator
    bodies: Bodies

    async def principal(self, request: Request) -> Principal:
        """Raises Unauthenticated, or Unavailable where an API key cannot be checked."""
        credentials = request.headers.getlist("authorization")
        if len(credentials) > 1:
            raise Unauthenticated("Send one Authorization header: of several nobody knows which one counts.")
        principal = await self.authenticator.authenticate(credentials[0] if credentials else None)
        call = context.current()
        if call is not None:
            call.tenant_id = principal.tenant_id
        return principal
