"""Signed tokens in compact form (RFC 7515), read as strictly as RFC 8725 advises."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from services.gateway.jwks import ALGORITHM

MAX_CHARS = 8192
# An ES256 signature is 64 bytes: 86 digits.
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})")
# All that our tokens carry. So jku, x5u, jwk, x5c (whose key is it?), b64 and crit (what
# was signed?) are refused, and whatever a later RFC may add.
_HEADER = frozenset({"alg", "typ", "kid"})


class TokenMalformed(ValueError):
    """Not a token that one of the keys signed. Which check failed is for nobody but tests."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a key has signed."""

    header: Mapping[str, Any]
    payload: bytes


def verify(token: str, keys: Mapping[str, ECKey]) -> Signed:
    """The header and payload of a token signed with ES256 by the key that its `kid` names.

    Raises TokenMalformed for everything else.
    """
    if len(token) > MAX_CHARS:
        raise TokenMalformed("too long")
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise TokenMalformed("not three segments of base64url")
    head, body, signature = (_decode(segment) for segment in match.groups())
    header = parse_object(head)
    if not header.keys() <= _HEADER:
        raise TokenMalformed("a header that is not ours")
    if header.get("alg") != ALGORITHM:
        raise TokenMalformed("another algorithm")
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenMalformed("unknown key")
    assert len(signature) == 64
    try:
        jws.deserialize_compact(token, key, algorithms=[ALGORITHM])
    except (JoseError, ValueError):
        raise TokenMalformed("the signature is not the key's") from None
    return Signed(header, body)


def parse_object(text: bytes) -> dict[str, Any]:
    """One JSON object, every name once (RFC 7515 section 4). Raises TokenMalformed."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise TokenMalformed("not JSON") from None
    if not isinstance(value, dict):
        raise TokenMalformed("not an object")
    return value


def _decode(segment: str) -> bytes:
    """base64url without padding, in its one canonical spelling: else one token has many texts."""
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise TokenMalformed("not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise TokenMalformed("not canonical base64url")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
