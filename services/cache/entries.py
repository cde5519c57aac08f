"""The form of a value in the store: versioned, compressed above a size, encrypted, bound to its key.

    version (1 byte) | flags (1) | length of key id (1) | key id | nonce (12) | AES-256-GCM(StoredEntry)

The key of the entry and everything before the nonce are authenticated with it. A value
that was damaged, cut, written by another version or belongs to another key does not
open; it is a miss with a name, never an answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from google.protobuf.message import DecodeError

from focus.cache.v1.entry_pb2 import StoredEntry

VERSION = 1
_COMPRESSED = 1
_NONCE = 12
_LEVEL = 3


class Unreadable(Exception):
    """The value cannot be used; `why` is `version`, `key` or `corrupt`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class KeyRing:
    """The keys that values are encrypted with: the one for writing and all for reading."""

    def __init__(self, keys: Mapping[str, bytes], writing: str) -> None:
        self._ciphers = {name.encode(): AESGCM(key) for name, key in keys.items()}
        self.writing = writing.encode()

    @classmethod
    def derived(cls, secret: bytes) -> KeyRing:
        """A ring of one key made from the secret of the keys (HKDF, RFC 5869)."""
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"focus-cache-value-1").derive(secret)
        return cls({"": key}, "")

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Nonce and ciphertext; `bound` must be given again to open it."""
        nonce = os.urandom(_NONCE)
        return nonce + self._ciphers[self.writing].encrypt(nonce, plain, bound)

    def open(self, name: bytes, sealed: bytes, bound: bytes) -> bytes:
        """The plain bytes; raises Unreadable."""
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise Unreadable("key")
        try:
            return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)
        except (InvalidTag, ValueError):
            raise Unreadable("corrupt") from None


@dataclass(slots=True)
class Coder:
    """Makes values of entries and entries of values. Sizes in bytes."""

    ring: Callable[[], KeyRing]
    compress_above: int
    max_bytes: int

    def encode(self, key: bytes, entry: StoredEntry) -> bytes | None:
        """The value for `key`; None when it would be larger than allowed."""
        plain = entry.SerializeToString()
        if len(plain) > self.max_bytes:
            return None
        flags = 0
        if len(plain) > self.compress_above:
            packed = zstandard.ZstdCompressor(level=_LEVEL).compress(plain)
            if len(packed) < len(plain):
                plain, flags = packed, _COMPRESSED
        return self._seal(plain, flags, key)

    def decode(self, key: bytes, value: bytes) -> StoredEntry:
        """The entry of a value that was encoded for `key`; raises Unreadable."""
        plain = self._open(value, key)
        try:
            if value[1] & _COMPRESSED:
                plain = zstandard.ZstdDecompressor().decompress(plain, max_output_size=self.max_bytes)
            return StoredEntry.FromString(plain)
        except (zstandard.ZstdError, DecodeError):
            raise Unreadable("corrupt") from None

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Something small of an entry's making, encrypted and bound likewise."""
        return self._seal(plain, 0, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """The inverse of `seal`; raises Unreadable."""
        return self._open(sealed, bound)

    def _seal(self, plain: bytes, flags: int, bound: bytes) -> bytes:
        ring = self.ring()
        header = bytes((VERSION, flags, len(ring.writing))) + ring.writing
        return header + ring.seal(plain, header + bound)

    def _open(self, value: bytes, bound: bytes) -> bytes:
        if len(value) < 3:
            raise Unreadable("corrupt")
        if value[0] != VERSION:
            raise Unreadable("version")
        end = 3 + value[2]
        header = value[:end]
        return self.ring().open(header[3:], value[end:], header + bound)
