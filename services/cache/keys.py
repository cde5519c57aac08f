"""Keys of stored answers: computed here and nowhere else.

A key is HMAC-SHA-256 over length-prefixed fields, so that no two different questions
run into one another ("a"+"bc" is not "ab"+"c"), nobody who sees the store can test
which questions were asked, and no tenant's key can ever equal another's: the tenant
is one of the fields (Wu et al., arXiv 2409.20002, tells what shared caches leak).
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from services.cache.canonical import canonical

KEY_BYTES = 32
MIN_SECRET_BYTES = 16
SECRET_FILE = "hmac"  # noqa: S105 - a file's name

# Part of every key: a new way of making keys must not meet old entries.
_FORMAT = b"focus-cache-key-1"


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


class KeyMaker:
    """Computes keys with the present secret; a new secret makes every old entry unreachable."""

    def __init__(self, secret: bytes) -> None:
        self.replace(secret)

    def replace(self, secret: bytes) -> None:
        """Uses another secret from now on. Raises ValueError when it is under 16 bytes."""
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the secret of the keys needs {MIN_SECRET_BYTES} bytes or more")
        self._secret = secret

    def key(self, asked: Asked) -> bytes:
        """The 32 bytes under which the answer is kept."""
        public = asked.scope is Scope.PUBLIC
        fields = (
            _FORMAT,
            b"" if public else asked.tenant.lower().encode(),
            bytes((asked.scope,)),
            asked.person.lower().encode() if asked.scope is Scope.PERSON else b"",
            struct.pack(">q", asked.mode),
            asked.system_instruction.encode(),
            struct.pack(">q", asked.max_output_tokens),
            b"" if asked.temperature is None else struct.pack(">d", asked.temperature),
            asked.language.lower().encode(),
            canonical(asked.text).encode(),
        )
        message = b"".join([part for field in fields for part in (struct.pack(">I", len(field)), field)])
        return hmac.digest(self._secret, message, "sha256")


def read_secret(directory: Path) -> bytes:
    """The secret in file `hmac`; white space around it is not part of it.

    Raises ValueError with a sentence for the operator when it is missing or too short.
    """
    path = directory / SECRET_FILE
    try:
        secret = path.read_bytes().strip()
    except OSError as err:
        raise ValueError(
            f"cannot read {path}: {err.strerror}; put at least {MIN_SECRET_BYTES} random bytes there"
        ) from None
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"{path} holds {len(secret)} bytes; put at least {MIN_SECRET_BYTES} random bytes there")
    return secret
