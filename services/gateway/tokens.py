"""Access tokens, verified here without asking anybody (RFC 9068, RFC 8725).

A token is good if a key of the watched directory signed it with ES256, its type is
`at+jwt`, it is for us (`iss`, `aud`), names a person and a tenant, and its time is now.
Revocation is bounded by the tokens' life of 180 s.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import watch
from services.common.errors import Unauthenticated
from services.gateway import jws
from services.gateway.jwks import KeySets

_TYP = "at+jwt"
# How far the clocks of two machines may be apart.
LEEWAY_SECONDS = 5.0
_CACHED_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf a request is made: two UUIDs as text."""

    tenant_id: str
    person_id: str

    def message(self) -> chat_pb2.Principal:
        """As the services expect it in a request."""
        return chat_pb2.Principal(tenant_id=self.tenant_id, person_id=self.person_id)


class TokenVerifier:
    """Verifies access tokens against the JWK sets (`*.json`) of a directory.

    A client sends the same token for three minutes, so what was verified is remembered
    (by SHA-256, at most 10,000, least recently used out first) until the token expires
    or the keys change.
    """

    def __init__(self, jwks_dir: Path, issuer: str, audience: str, *, clock: Callable[[], float] = time.time) -> None:
        """Reads the directory; ends the process with one sentence if that cannot be done.

        An empty one is allowed: every token is refused until a key set appears.
        """
        self._directory = jwks_dir
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._verified: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        try:
            self._sets = KeySets(jwks_dir)
        except OSError as err:
            raise SystemExit(f"the directory of public keys {jwks_dir} cannot be read: {err.strerror}") from None

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """While the context is open, changes of the directory take effect within a second."""
        async with watch.watching(self._directory, self.reload):
            self.reload()  # what changed between the first reading and the watch
            yield

    def reload(self) -> None:
        """Reads the directory again and forgets what was verified with the keys before."""
        self._sets.reload()
        self._verified.clear()

    def public_keys(self) -> dict[str, list[dict[str, Any]]]:
        """The JWK set to publish at `/.well-known/jwks.json`."""
        return self._sets.public()

    def verify(self, token: str) -> Principal:
        """Whose token it is.

        Raises Unauthenticated: TOKEN_EXPIRED for a token that was good, else CREDENTIALS_INVALID.
        """
        if len(token) > jws.MAX_CHARS:
            raise _invalid()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(digest)
        if known is not None:
            principal, expires = known
            if self._clock() < expires:
                self._verified.move_to_end(digest)
                return principal
            del self._verified[digest]
            raise _expired()
        try:
            principal, expires = self._read(token)
        except jws.TokenMalformed:
            raise _invalid() from None
        if self._clock() >= expires:
            raise _expired()
        self._verified[digest] = (principal, expires)
        if len(self._verified) > _CACHED_TOKENS:
            self._verified.popitem(last=False)
        return principal

    def _read(self, token: str) -> tuple[Principal, float]:
        """Whose it is and until when, the leeway included, in seconds of the clock."""
        signed = jws.verify(token, self._sets.keys)
        if signed.header.get("typ") != _TYP:
            raise jws.TokenMalformed("another type")
        claims = jws.parse_object(signed.payload)
        audience = claims.get("aud")
        if claims.get("iss") != self._issuer:
            raise jws.TokenMalformed("another issuer")
        if audience != self._audience and not (isinstance(audience, list) and self._audience in audience):
            raise jws.TokenMalformed("for somebody else")
        latest = self._clock() + LEEWAY_SECONDS
        if _time(claims, "iat") > latest or ("nbf" in claims and _time(claims, "nbf") > latest):
            raise jws.TokenMalformed("from the future")
        _text(claims, "jti")
        principal = Principal(tenant_id=_text(claims, "tid"), person_id=_text(claims, "sub"))
        return principal, _time(claims, "exp") + LEEWAY_SECONDS


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise jws.TokenMalformed(f"{name} is not a time")
    try:
        seconds = float(value)
    except OverflowError:
        raise jws.TokenMalformed(f"{name} is not a time") from None
    if not math.isfinite(seconds):
        raise jws.TokenMalformed(f"{name} is not a time")
    return seconds


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise jws.TokenMalformed(f"{name} is missing")
    return value


def _invalid() -> Unauthenticated:
    return Unauthenticated("The access token is not valid; sign in again or check the API key.")


def _expired() -> Unauthenticated:
    return Unauthenticated(
        "The access token has expired; get a new one with the refresh token.", ErrorReason.ERROR_REASON_TOKEN_EXPIRED
    )
