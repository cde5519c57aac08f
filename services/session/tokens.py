"""Access tokens: ES256 JWTs after RFC 9068 that everybody verifies without asking."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol

from joserfc import jwt

from services.session.signing_keys import ALGORITHM, SigningKey

LIFETIME_SECONDS = 180


class KeySource(Protocol):
    """Where the key that signs now comes from."""

    @property
    def current(self) -> SigningKey: ...


class AccessTokens:
    """Mints tokens for `audience` in the name of `issuer`; they live 180 s."""

    def __init__(self, keys: KeySource, issuer: str, audience: str, *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    def mint(self, *, tenant_id: str, person_id: str) -> str:
        """A token for one person, signed with the newest key."""
        key = self._keys.current
        now = int(self._clock())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": person_id,
            "tid": tenant_id,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        }
        return jwt.encode({"alg": ALGORITHM, "typ": "at+jwt", "kid": key.kid}, claims, key.key, algorithms=[ALGORITHM])
