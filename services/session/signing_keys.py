"""The private keys that sign access tokens: one JWK (RFC 7517) a file, watched, the newest signs.

A key's id begins with the UTC second of its making, so that "newest" is the id that
sorts last, wherever and whenever the file was copied; a mounted Secret has no file
times to go by. To change keys, publish the new public key first and put the private
one in place once every verifier has it; remove the old public key 180 s (the life of
a token) after the old private one.

    python -m services.session.signing_keys --signing-dir D --jwks-dir E

makes a first key if D has none and publishes the public halves of all keys in D.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from services.common import logs, watch

log = logs.get(__name__)

ALGORITHM = "ES256"


class KeyMalformed(ValueError):
    """A file is not a private ES256 key; the message says why and never what is in it."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private P-256 key and the id under which its public half is published."""

    kid: str
    key: ECKey


class SigningKeys:
    """The keys of a directory, as of the last reload that found at least one."""

    def __init__(self, directory: Path) -> None:
        """Reads the directory. Ends the process with one sentence if no key can be used."""
        self._directory = directory
        self._current: SigningKey | None = None
        self.reload()

    @property
    def current(self) -> SigningKey:
        """The key that signs now."""
        assert self._current is not None
        return self._current

    def reload(self) -> None:
        """Reads the directory again. Files that cannot be used are left out and logged; if
        nothing is left, the key in use stays."""
        found: list[SigningKey] = []
        for file in sorted(self._directory.glob("*.json")):
            try:
                found.append(parse(file.read_bytes()))
            except (KeyMalformed, OSError) as err:
                log.error("signing key left out", file=file.name, why=str(err))
        if found:
            self._current = max(found, key=lambda key: key.kid)
            log.info("signing key chosen", kid=self._current.kid, among=len(found))
        elif self._current is None:
            raise SystemExit(
                f"no signing key in {self._directory}: make one with 'python -m services.session.signing_keys'"
            )
        else:
            log.error("no signing key can be used any more; the one in memory goes on signing", kid=self._current.kid)


@asynccontextmanager
async def watched(directory: Path) -> AsyncIterator[SigningKeys]:
    """The keys of `directory`, read again within a second of a change there."""
    keys: SigningKeys | None = None

    def reload() -> None:
        if keys is not None:
            keys.reload()

    async with watch.watching(directory, reload):
        keys = SigningKeys(directory)
        yield keys


def parse(text: bytes) -> SigningKey:
    """One private JWK. Raises KeyMalformed."""
    try:
        members = json.loads(text)
        key = ECKey.import_key(members)
    except (ValueError, TypeError, AttributeError, KeyError, JoseError):
        raise KeyMalformed("it is not an EC key in JWK form") from None
    if members.get("kty") != "EC" or members.get("crv") != "P-256" or not key.is_private:
        raise KeyMalformed("it is not a private key on P-256")
    if members.get("alg", ALGORITHM) != ALGORITHM or members.get("use", "sig") != "sig":
        raise KeyMalformed("it is meant for another algorithm or use")
    kid = members.get("kid")
    if not isinstance(kid, str) or not 1 <= len(kid) <= 200:
        raise KeyMalformed("it has no key id of 1 to 200 characters")
    return SigningKey(kid, key)


def generate() -> SigningKey:
    """A new key, newer than all made before this second."""
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, private=True)
    kid = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{key.thumbprint()[:16]}"
    return SigningKey(kid, ECKey.import_key({**key.as_dict(private=True), "kid": kid}))


def provide(signing_dir: Path, jwks_dir: Path, name: str) -> SigningKey:
    """Makes a first key if `signing_dir` has none; publishes all as `jwks_dir/<name>.json`.

    Safe when two run at once. The public half is published before the private one is
    in place. Raises KeyMalformed for a file in `signing_dir` that is no key: it is not
    for this command to decide what should become of it.
    """
    signing_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    jwks_dir.mkdir(parents=True, exist_ok=True)
    with (signing_dir / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys: list[SigningKey] = []
        for file in sorted(signing_dir.glob("*.json")):
            try:
                keys.append(parse(file.read_bytes()))
            except KeyMalformed as err:
                raise KeyMalformed(f"{file} cannot be used: {err}; remove or mend it") from None
        made = None if keys else generate()
        published = [*keys, made] if made else keys
        public = [key.key.as_dict(private=False) for key in published]
        _write(jwks_dir / f"{name}.json", json.dumps({"keys": public}, indent=2), mode=0o644)
        if made:
            _write(signing_dir / f"{made.kid}.json", json.dumps(made.key.as_dict(private=True)), mode=0o600)
        return max(published, key=lambda key: key.kid)


def _write(path: Path, text: str, *, mode: int) -> None:
    """Replaces a file as a whole: a reader sees the old or the new one, also after a crash."""
    if path.is_file() and path.read_text() == text and path.stat().st_mode & 0o777 == mode:
        return
    # mkstemp makes it 0600; the hidden name keeps it from being read half-written.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; prints the id of the key that signs."""
    parser = argparse.ArgumentParser(prog="python -m services.session.signing_keys", description=__doc__.split("\n")[0])
    parser.add_argument("--signing-dir", type=Path, required=True, help="where the private keys are")
    parser.add_argument("--jwks-dir", type=Path, required=True, help="where the public key set is written")
    parser.add_argument("--name", default="local", help="file name of the key set, without .json (default: local)")
    options = parser.parse_args(arguments)
    try:
        key = provide(options.signing_dir, options.jwks_dir, options.name)
    except (KeyMalformed, OSError) as err:
        raise SystemExit(str(err)) from None
    sys.stdout.write(f"{key.kid}\n")


if __name__ == "__main__":
    main()
