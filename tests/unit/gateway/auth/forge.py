"""Makes tokens of any shape, also those that no library would make."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

ISSUER = "https://focus.test"
AUDIENCE = "focus"
NOW = 1_800_000_000.0


def key(kid: str = "k1") -> ECKey:
    """A new private key."""
    made = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, private=True)
    return ECKey.import_key({**made.as_dict(private=True), "kid": kid})


def publish(directory: Path, name: str, *keys: ECKey) -> None:
    """Writes the keys' public halves as a JWK set."""
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps({"keys": [key.as_dict(private=False) for key in keys]}))


def header(**changes: Any) -> dict[str, Any]:
    """A good header with changes; None removes."""
    return _changed({"alg": "ES256", "typ": "at+jwt", "kid": "k1"}, changes)


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims at NOW with changes; None removes."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "person",
        "tid": "tenant",
        "jti": "1",
        "iat": int(NOW),
        "exp": int(NOW) + 180,
    }
    return _changed(good, changes)


def token(key: ECKey, head: dict[str, Any] | str | None = None, body: dict[str, Any] | str | None = None) -> str:
    """Signed with ES256 whatever the header says; texts are taken as they are."""
    segments = [_segment(header() if head is None else head), _segment(claims() if body is None else body)]
    signature = JWSRegistry.algorithms["ES256"].sign(".".join(segments).encode(), key)
    return ".".join([*segments, encode(signature)])


def encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _segment(value: dict[str, Any] | str) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return encode(text.encode())


def _changed(good: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**good, **changes}.items() if value is not None}
