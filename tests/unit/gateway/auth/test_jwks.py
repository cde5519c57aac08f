import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.gateway import jwks
from services.gateway.jwks import KeySetMalformed, KeySets
from tests.unit.gateway.auth import forge


def text(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_keys_for_anything_else_are_left_out() -> None:
    good = forge.key().as_dict(private=False)
    others: list[dict[str, Any]] = [
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "rsa"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "okp"},
        {**good, "kid": "p384", "crv": "P-384"},
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": "alg", "alg": "ES384"},
        {**good, "kid": "ops", "key_ops": ["encrypt"]},
        {"kty": "new"},
    ]
    assert list(jwks.parse(text(*others, good))) == ["k1"]


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.as_dict(private=True),
        lambda key: {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
        lambda key: {**key.as_dict(private=False), "kid": None},
        lambda key: {**key.as_dict(private=False), "kid": ""},
        lambda key: {**key.as_dict(private=False), "y": key.as_dict(private=False)["x"]},
        lambda key: {**key.as_dict(private=False), "x": 7},
        lambda key: {name: value for name, value in key.as_dict(private=False).items() if name != "x"},
        lambda key: [],
    ],
    ids=["private", "symmetric", "no id", "empty id", "off the curve", "number", "half", "list"],
)
def test_a_bad_key_spoils_its_set(change: Callable[[Any], dict[str, Any]]) -> None:
    with pytest.raises(KeySetMalformed):
        jwks.parse(text(change(forge.key())))


def test_an_id_stands_for_one_key() -> None:
    with pytest.raises(KeySetMalformed, match="same id"):
        jwks.parse(text(forge.key().as_dict(private=False), forge.key().as_dict(private=False)))


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"keys": {}}', b"\xff", b"[" * 100_000])
def test_what_is_no_set_is_malformed(broken: bytes) -> None:
    with pytest.raises(KeySetMalformed):
        jwks.parse(broken)


def test_all_sets_of_the_directory_count_and_no_hidden_ones(tmp_path: Path) -> None:
    forge.publish(tmp_path, "home", forge.key("a"), forge.key("b"))
    forge.publish(tmp_path, "peer", forge.key("c"))
    forge.publish(tmp_path, ".new", forge.key("d"))
    sets = KeySets(tmp_path)
    assert sorted(sets.keys) == ["a", "b", "c"]
    published = sets.public()["keys"]
    assert sorted(key["kid"] for key in published) == ["a", "b", "c"]
    assert not any("d" in key for key in published)


def test_a_file_that_goes_bad_keeps_its_last_good_keys_while_others_change(tmp_path: Path) -> None:
    forge.publish(tmp_path, "home", forge.key("a"))
    forge.publish(tmp_path, "peer", forge.key("b"))
    sets = KeySets(tmp_path)
    (tmp_path / "home.json").write_text('{"keys": [')
    forge.publish(tmp_path, "peer", forge.key("c"))
    sets.reload()
    assert sorted(sets.keys) == ["a", "c"]
    (tmp_path / "home.json").unlink()
    sets.reload()
    assert sorted(sets.keys) == ["c"]


def test_a_directory_that_is_gone_keeps_all(tmp_path: Path) -> None:
    forge.publish(tmp_path / "jwks", "home", forge.key("a"))
    sets = KeySets(tmp_path / "jwks")
    (tmp_path / "jwks").rename(tmp_path / "away")
    with pytest.raises(OSError, match="jwks"):
        sets.reload()
    assert list(sets.keys) == ["a"]


def test_an_id_in_two_files_is_the_first_files_key(tmp_path: Path) -> None:
    first, second = forge.key("a"), forge.key("a")
    forge.publish(tmp_path, "2", second)
    forge.publish(tmp_path, "1", first)
    assert KeySets(tmp_path).keys["a"].thumbprint() == first.thumbprint()


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    forge.publish(tmp_path, "home", forge.key("a"))
    with (tmp_path / "huge.json").open("w") as file:
        os.truncate(file.fileno(), 1 << 30)
    assert list(KeySets(tmp_path).keys) == ["a"]
