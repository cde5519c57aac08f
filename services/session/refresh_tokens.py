"""The text of refresh tokens: `fr_`, then 16 bytes that name the family and 32 secret ones.

A successor is derived from its parent and a random salt that the store keeps:
HMAC-SHA-256(parent's secret, salt). So the same successor can be given again to
whoever presents the parent within the grace window without any server key to keep,
share and rotate: the store alone cannot make it (it has the parent's digest only),
nor can somebody who holds an old token alone (no salt).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass

PREFIX = "fr_"
# 48 bytes in base64url are 64 digits without padding.
_TEXT = re.compile(r"fr_([A-Za-z0-9_-]{64})")


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One token of a family."""

    family: uuid.UUID
    secret: bytes

    @property
    def text(self) -> str:
        """As the client keeps it."""
        return PREFIX + base64.urlsafe_b64encode(self.family.bytes + self.secret).decode()

    @property
    def digest(self) -> bytes:
        """As the store keeps it: SHA-256, which is enough for 256 random bits."""
        return hashlib.sha256(self.family.bytes + self.secret).digest()

    def successor(self, salt: bytes) -> RefreshToken:
        """The next token of the family, the same for the same salt."""
        return RefreshToken(self.family, hmac.digest(self.secret, salt, hashlib.sha256))


def first() -> RefreshToken:
    """The first token of a new family."""
    return RefreshToken(uuid.uuid4(), secrets.token_bytes(32))


def salt() -> bytes:
    """32 random bytes."""
    return secrets.token_bytes(32)


def parse(text: str) -> RefreshToken | None:
    """None if the text cannot be a refresh token of ours."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    data = base64.urlsafe_b64decode(match.group(1))
    return RefreshToken(uuid.UUID(bytes=data[:16]), data[16:])
