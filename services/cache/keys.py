"""Keys of stored answers: computed here and nowhere else.

A key is HMAC-SHA-256 over length-prefixed fields, so that no two different questions
run into one another ("a"+"bc" is not "ab"+"c"), nobody who sees the store can test
which questions were asked, and no tenant's key can ever equal another's: the tenant
is one of the fields (arXiv 2409.20002 tells what shared caches leak).
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum

from services.cache.canonical import canonical

KEY_BYTES = 32
MIN_SECRET_BYTES = 16

# Part of every key: a new way of making keys must not meet old entries.
_FORMAT = b"focus-cache-key-1"
_LENGTH = struct.Struct(">I")
_INTEGER = struct.Struct(">q")
_REAL = struct.Struct(">d")


class Scope(IntEnum):
    """Whom an entry answers."""

    PERSON = 1
    TENANT = 2
    PUBLIC = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with everything that its answer depends on."""

    tenant: str
    person: str
    scope: Scope
    text: str
    mode: int
    system_instruction: str
    max_output_tokens: int
    temperature: float | None
    language: str
    # Bytes that stand for whatever else it depends on.
    other: bytes = b""


def key_of(secret: bytes, asked: Asked) -> bytes:
    """The 32 bytes under which the answer is kept."""
    public = asked.scope is Scope.PUBLIC
    fields = (
        _FORMAT,
        b"" if public else asked.tenant.lower().encode(),
        bytes((asked.scope,)),
        asked.person.lower().encode() if asked.scope is Scope.PERSON else b"",
        _INTEGER.pack(asked.mode),
        asked.system_instruction.encode(),
        _INTEGER.pack(asked.max_output_tokens),
        b"" if asked.temperature is None else _REAL.pack(asked.temperature),
        asked.language.lower().encode(),
        canonical(asked.text).encode(),
        asked.other,
    )
    message = b"".join([part for field in fields for part in (_LENGTH.pack(len(field)), field)])
    return hmac.digest(secret, message, "sha256")


def fingerprint_of(secret: bytes, text: str) -> bytes:
    """Tells two answers apart without telling what they say."""
    return hmac.digest(secret, b"answer" + canonical(text).encode(), "sha256")[:8]
