"""Public keys that access tokens are verified with: JWK sets (RFC 7517) in a directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from services.common import logs

log = logs.get(__name__)

ALGORITHM = "ES256"
_MAX_BYTES = 1 << 20


class KeySetMalformed(ValueError):
    """A file is not a usable JWK set; the message says why and never what is in it."""


def parse(text: bytes) -> dict[str, ECKey]:
    """The ES256 keys of one JWK set by their id. Keys for anything else are left out (section 5).

    Raises KeySetMalformed, also where one id stands for two keys and where a private or
    symmetric key is in what is meant to be public.
    """
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise KeySetMalformed("it is not JSON") from None
    if not isinstance(members, dict) or not isinstance(members.get("keys"), list):
        raise KeySetMalformed('it has no list "keys"')
    keys: dict[str, ECKey] = {}
    for jwk in members["keys"]:
        if not isinstance(jwk, dict):
            raise KeySetMalformed("a key is not an object")
        if jwk.get("kty") == "oct" or "d" in jwk or "k" in jwk:
            raise KeySetMalformed("it holds a secret; only public keys belong there")
        if not _verifies_es256(jwk):
            continue
        kid = jwk.get("kid")
        if not isinstance(kid, str) or not 1 <= len(kid) <= 200:
            raise KeySetMalformed("a key has no id of 1 to 200 characters")
        if kid in keys:
            raise KeySetMalformed("two keys have the same id")
        try:
            key = ECKey.import_key(jwk)
            key.get_op_key("verify")  # refuses a point that is not on the curve
        except (JoseError, ValueError, TypeError, KeyError):
            raise KeySetMalformed("a key is not a point on P-256") from None
        keys[kid] = key
    return keys


def _verifies_es256(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return (
        jwk.get("kty") == "EC"
        and jwk.get("crv") == "P-256"
        and jwk.get("alg", ALGORITHM) == ALGORITHM
        and jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


class KeySets:
    """All `*.json` of a directory together; a file that went bad keeps its last good content.

    A removed file's keys are gone: that is how a key is withdrawn.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, dict[str, ECKey]] = {}
        self._keys: dict[str, ECKey] = {}
        self.reload()

    def reload(self) -> None:
        """Reads the directory again. Raises OSError if it cannot be listed; nothing changes then."""
        files: dict[str, dict[str, ECKey]] = {}
        # Not Path.glob: it takes a directory that cannot be read for an empty one.
        for path in sorted(path for path in self._directory.iterdir() if path.suffix == ".json"):
            if path.name.startswith("."):
                continue
            try:
                files[path.name] = parse(_read(path))
            except (KeySetMalformed, OSError) as err:
                log.error("key set cannot be used; its last good content stays", file=path.name, why=str(err))
                if path.name in self._files:
                    files[path.name] = self._files[path.name]
        keys: dict[str, ECKey] = {}
        for name, found in files.items():
            for kid, key in found.items():
                if kid in keys and keys[kid].thumbprint() != key.thumbprint():
                    log.error("key left out: another file has its id for another key", file=name, kid=kid)
                    continue
                keys[kid] = key
        self._files, self._keys = files, keys
        log.info("verification keys loaded", kids=sorted(keys), files=len(files))

    @property
    def keys(self) -> Mapping[str, ECKey]:
        """The keys by id."""
        return self._keys

    def public(self) -> dict[str, list[dict[str, Any]]]:
        """The set to publish at `/.well-known/jwks.json`."""
        return {"keys": [dict(key.as_dict(private=False)) for key in self._keys.values()]}


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise KeySetMalformed("it is larger than 1 MiB")
    return text
