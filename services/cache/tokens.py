"""Tokens that callers hand back: opaque to them, the same on every replica.

A fill's holder id is eight bytes of the version of the purge marks known when it began
and eight random ones: whatever comes of a fill is as old as its beginning.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from services.cache.keys import KEY_BYTES
from services.cache.storage import HOLDER_BYTES
from services.common import errors

_FILL, _LEASED, _FLIGHT, _ENTRY = b"f", b"l", b"w", b"e"
_TAG_BYTES = 8


@dataclass(frozen=True, slots=True)
class FillToken:
    """A fill; `holder` is empty for one that nobody leased."""

    key: bytes
    holder: bytes
    leased: bool

    def encode(self) -> bytes:
        return (_LEASED if self.leased else _FILL) + self.key + self.holder

    @classmethod
    def decode(cls, token: bytes) -> FillToken:
        """Raises InvalidRequest."""
        if token[:1] not in (_FILL, _LEASED) or len(token) != 1 + KEY_BYTES + HOLDER_BYTES:
            raise errors.InvalidRequest("A fill token is malformed; use the one from Lookup or Follow as it came.")
        return cls(token[1 : 1 + KEY_BYTES], token[1 + KEY_BYTES :], token[:1] == _LEASED)


def new_holder(version: int) -> bytes:
    """A holder id for a fill that begins now."""
    return version.to_bytes(8, "big") + os.urandom(HOLDER_BYTES - 8)


def version_of(holder: bytes) -> int:
    """The version of the purge marks that were known when the fill began."""
    return int.from_bytes(holder[:8], "big")


def flight_token(key: bytes, holder: bytes) -> bytes:
    """For following the fill of `holder`."""
    return _FLIGHT + key + holder


def flight_of(token: bytes) -> tuple[bytes, bytes]:
    """Key and holder; raises InvalidRequest."""
    if token[:1] != _FLIGHT or len(token) != 1 + KEY_BYTES + HOLDER_BYTES:
        raise errors.InvalidRequest("The token to follow is malformed; use the one from Lookup as it came.")
    return token[1 : 1 + KEY_BYTES], token[1 + KEY_BYTES :]


def entry_token(secret: bytes, tenant: str, key: bytes) -> bytes:
    """Names a stored answer to one tenant; may be shown to its people."""
    return _ENTRY + key + _tag(secret, tenant, key)


def entry_of(secret: bytes, tenant: str, token: bytes) -> bytes:
    """The key; raises InvalidRequest for another tenant's token as for a malformed one."""
    key = token[1 : 1 + KEY_BYTES]
    if token[:1] != _ENTRY or not hmac.compare_digest(token[1 + KEY_BYTES :], _tag(secret, tenant, key)):
        raise errors.InvalidRequest("The entry is malformed or not this tenant's; use the answer's as it came.")
    return key


def _tag(secret: bytes, tenant: str, key: bytes) -> bytes:
    return hmac.digest(secret, b"entry" + key + tenant.lower().encode(), "sha256")[:_TAG_BYTES]


def key_in(token: bytes) -> bytes:
    """The key in an entry's token of whatever tenant, for operators; raises InvalidRequest."""
    if token[:1] != _ENTRY or len(token) != 1 + KEY_BYTES + _TAG_BYTES:
        raise errors.InvalidRequest("An entry is malformed; use the answer's as it came.")
    return token[1 : 1 + KEY_BYTES]
