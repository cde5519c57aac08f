"""Secrets of the cache, from a watched directory, replaced without a restart.

`hmac` is the secret of the keys: when it changes, every entry is out of reach. Files
`aes-NAME` (32 bytes as 64 hexadecimal digits) encrypt the values: the one whose NAME
sorts last writes, all of them read, so a key is rotated by adding a file and removing
the old one two days later. Without such a file a key is derived from `hmac`.
"""

from __future__ import annotations

from pathlib import Path

from services.cache.entries import KeyRing
from services.cache.keys import MIN_SECRET_BYTES

_HMAC = "hmac"
_PREFIX = "aes-"
_AES_BYTES = 32


class Vault:
    """What is mounted. Reading raises ValueError with a sentence for the operator."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.secret, self.ring = _read(directory)

    def reload(self) -> None:
        """Reads all anew; keeps what it has when that fails."""
        self.secret, self.ring = _read(self._directory)


def _read(directory: Path) -> tuple[bytes, KeyRing]:
    secret = _bytes(directory / _HMAC).strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(
            f"{directory / _HMAC} holds {len(secret)} bytes; put at least {MIN_SECRET_BYTES} random bytes there"
        )
    keys: dict[str, bytes] = {}
    for path in sorted(directory.glob(f"{_PREFIX}*")):
        try:
            key = bytes.fromhex(_bytes(path).strip().decode("ascii"))
        except ValueError:
            key = b""
        name = path.name.removeprefix(_PREFIX)
        if len(key) != _AES_BYTES or not 1 <= len(name.encode()) <= 64:
            raise ValueError(f"{path} is no AES-256 key; put 64 hexadecimal digits there (openssl rand -hex 32)")
        keys[name] = key
    return secret, KeyRing(keys, max(keys)) if keys else KeyRing.derived(secret)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        wanted = f"put at least {MIN_SECRET_BYTES} random bytes there"
        raise ValueError(f"cannot read {path}: {err.strerror}; {wanted}") from None
