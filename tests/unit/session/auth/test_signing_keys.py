import asyncio
import json
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.session import signing_keys
from services.session.signing_keys import KeyMalformed, SigningKeys


def write(directory: Path, kid: str, **members: Any) -> None:
    directory.mkdir(exist_ok=True)
    jwk = {**signing_keys.generate().key.as_dict(private=True), "kid": kid, **members}
    (directory / f"{kid}.json").write_text(json.dumps(jwk))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not come to pass within 10 s")


def empty(directory: Path) -> None:
    for file in directory.glob("*.json"):
        file.unlink()


def test_the_command_makes_one_key_and_publishes_its_public_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--signing-dir", str(tmp_path / "signing"), "--jwks-dir", str(tmp_path / "jwks"), "--name", "home"]
    signing_keys.main(arguments)
    first = (capsys.readouterr().out, (tmp_path / "jwks" / "home.json").read_text())
    signing_keys.main(arguments)
    assert first == (capsys.readouterr().out, (tmp_path / "jwks" / "home.json").read_text())
    (private,) = (tmp_path / "signing").glob("*.json")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert first[0].strip() == private.stem
    (public,) = json.loads(first[1])["keys"]
    assert public.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (public["kid"], public["alg"], public["crv"]) == (private.stem, "ES256", "P-256")


def test_a_lost_key_set_is_published_again(tmp_path: Path) -> None:
    signing, jwks = tmp_path / "signing", tmp_path / "jwks"
    key = signing_keys.provide(signing, jwks, "local")
    shutil.rmtree(jwks)
    assert signing_keys.provide(signing, jwks, "local").kid == key.kid
    assert [public["kid"] for public in json.loads((jwks / "local.json").read_text())["keys"]] == [key.kid]


def test_commands_at_the_same_time_make_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: signing_keys.provide(tmp_path / "s", tmp_path / "j", "local").kid, range(8)))
    assert len(set(made)) == 1
    assert len(list((tmp_path / "s").glob("*.json"))) == 1


def test_the_command_does_not_guess_what_a_broken_file_was(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "broken.json").write_text("{")
    with pytest.raises(SystemExit, match=r"broken\.json cannot be used: it is not an EC key in JWK form"):
        signing_keys.main(["--signing-dir", str(tmp_path / "s"), "--jwks-dir", str(tmp_path / "j")])


def test_the_id_that_sorts_last_signs(tmp_path: Path) -> None:
    for kid in ("20260102T000000Z-b", "20260103T000000Z-a", "20260101T000000Z-c"):
        write(tmp_path, kid)
    assert SigningKeys(tmp_path).current.kid == "20260103T000000Z-a"


def test_without_a_usable_key_the_process_ends_with_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, "1", alg="ES384")
    with pytest.raises(SystemExit, match="make one with"):
        SigningKeys(tmp_path)


async def test_a_new_key_signs_soon_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "1")
    async with signing_keys.watched(tmp_path) as keys:
        write(tmp_path, "2")
        await until(lambda: keys.current.kid == "2")
        (tmp_path / "3.json").write_text("not a key")
        write(tmp_path, "25")
        await until(lambda: keys.current.kid == "25")
        empty(tmp_path)
        keys.reload()
        assert keys.current.kid == "25"


@pytest.mark.parametrize(
    "change",
    [
        {"kid": ""},
        {"kid": None},
        {"kid": 7},
        {"use": "enc"},
        {"alg": "RS256"},
        {"d": ""},
        {"x": "AAAA"},
        {"kty": "oct"},
    ],
)
def test_what_is_no_private_es256_key_is_malformed(change: dict[str, Any]) -> None:
    jwk = signing_keys.generate().key.as_dict(private=True)
    assert signing_keys.parse(json.dumps(jwk).encode()).kid == jwk["kid"]
    with pytest.raises(KeyMalformed):
        signing_keys.parse(json.dumps({**jwk, **change}).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b"null", b"\xff", b'{"kty":"EC"}'])
def test_what_is_no_jwk_is_malformed(text: bytes) -> None:
    with pytest.raises(KeyMalformed):
        signing_keys.parse(text)


def test_a_public_key_cannot_sign() -> None:
    public = signing_keys.generate().key.as_dict(private=False)
    with pytest.raises(KeyMalformed, match="private"):
        signing_keys.parse(json.dumps(public).encode())
