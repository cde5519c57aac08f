import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from services.common.errors import Unauthenticated
from services.gateway.tokens import LEEWAY_SECONDS, Principal, TokenVerifier
from tests.unit.gateway.auth import forge
from tests.unit.gateway.auth.forge import NOW, claims, header

WHO = Principal("tenant", "person")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key() -> ECKey:
    return forge.key()


@pytest.fixture
def verifier(tmp_path: Path, key: ECKey, clock: Clock) -> TokenVerifier:
    forge.publish(tmp_path, "home", key)
    return TokenVerifier(tmp_path, forge.ISSUER, forge.AUDIENCE, clock=clock)


def reason(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(token)
    return caught.value.reason_name


@pytest.mark.parametrize(
    "body",
    [
        claims(),
        claims(aud=["other", forge.AUDIENCE]),
        claims(nbf=int(NOW)),
        claims(scope="anything"),
        claims(iat=NOW + LEEWAY_SECONDS - 0.5),
        claims(exp=NOW - LEEWAY_SECONDS + 0.5),
    ],
)
def test_a_good_token_names_its_principal(verifier: TokenVerifier, key: ECKey, body: dict[str, Any]) -> None:
    token = forge.token(key, body=body)
    assert verifier.verify(token) == WHO
    assert verifier.verify(token) == WHO


@pytest.mark.parametrize(
    "body",
    [
        *[claims(**{name: None}) for name in ("iss", "aud", "sub", "tid", "iat", "exp", "jti")],
        *[claims(**{name: value}) for name in ("iat", "exp", "nbf") for value in ("1800000000", True, [1], 10**400)],
        *[claims(**{name: value}) for name in ("sub", "tid", "jti") for value in ("", 7, ["person"])],
        claims(iss="https://other.test"),
        claims(iss=[forge.ISSUER]),
        claims(aud="other"),
        claims(aud=[]),
        claims(aud={"focus": 1}),
        claims(iat=NOW + LEEWAY_SECONDS + 1),
        claims(nbf=NOW + LEEWAY_SECONDS + 1),
        "[]",
        '"text"',
        "not JSON",
        json.dumps(claims())[:-1] + ', "sub": "somebody else"}',
        json.dumps(claims()).replace(str(int(NOW) + 180), "NaN"),
        json.dumps(claims()).replace(str(int(NOW) + 180), "1e999"),
        '{"a":' * 500 + "1" + "}" * 500,
    ],
)
def test_claims_that_are_missing_or_wrong_make_it_invalid(
    verifier: TokenVerifier, key: ECKey, body: dict[str, Any] | str
) -> None:
    assert reason(verifier, forge.token(key, body=body)) == "CREDENTIALS_INVALID"


@pytest.mark.parametrize(
    "head",
    [
        *[header(**{name: None}) for name in ("alg", "typ", "kid")],
        *[header(**{name: "x"}) for name in ("jku", "x5u", "jwk", "x5c", "x5t", "crit", "b64", "zip", "cty")],
        header(b64=True),
        header(crit=["exp"]),
        header(jwk={"kty": "EC"}),
        *[header(alg=alg) for alg in ("none", "HS256", "ES384", "es256", "RS256", "EdDSA", ["ES256"])],
        *[header(typ=typ) for typ in ("JWT", "AT+JWT", "application/at+jwt", 1)],
        *[header(kid=kid) for kid in ("k2", "", 1, ["k1"], {"k": 1})],
        '{"alg":"ES256","typ":"at+jwt","kid":"k1","kid":"k1"}',
        '{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"k1"}',
        "[]",
        "x",
        "[" * 3000,
    ],
)
def test_headers_that_are_not_exactly_ours_make_it_invalid(
    verifier: TokenVerifier, key: ECKey, head: dict[str, Any] | str
) -> None:
    assert reason(verifier, forge.token(key, head)) == "CREDENTIALS_INVALID"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: ".",
        lambda token: "..",
        lambda token: token + ".",
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.replace(".", "..", 1),
        lambda token: token.rpartition(".")[0],
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token.rpartition(".")[0] + "." + "A" * 86,
        lambda token: token + "AAAA",
        lambda token: token[:-1] + chr(ord(token[-1]) + 1),
        lambda token: "." + token.partition(".")[2],
        lambda token: token.replace("e", "é", 1),
        lambda token: token.replace("e", "\ud800", 1),
        lambda token: token + "A" * 8192,
        lambda token: token.split(".")[0] + "." + forge.encode(b"{}") + "." + token.split(".")[2],
    ],
)
def test_anything_but_the_strict_compact_form_is_invalid(
    verifier: TokenVerifier, key: ECKey, spoil: Callable[[str], str]
) -> None:
    """Among them the last digit plus one: the same bytes in another spelling."""
    token = forge.token(key)
    assert verifier.verify(token) == WHO
    assert reason(verifier, spoil(token)) == "CREDENTIALS_INVALID"


def test_another_key_under_the_same_id_is_refused(verifier: TokenVerifier) -> None:
    assert reason(verifier, forge.token(forge.key("k1"))) == "CREDENTIALS_INVALID"


def test_a_token_expires_also_once_it_was_accepted(verifier: TokenVerifier, key: ECKey, clock: Clock) -> None:
    seen, unseen = forge.token(key, body=claims(jti="seen")), forge.token(key, body=claims(jti="unseen"))
    verifier.verify(seen)
    clock.now += 180 + LEEWAY_SECONDS - 0.5
    assert verifier.verify(seen) == WHO
    clock.now += 0.5
    assert [reason(verifier, token) for token in (seen, seen, unseen)] == ["TOKEN_EXPIRED"] * 3


def test_an_expired_forgery_is_invalid_not_expired(verifier: TokenVerifier) -> None:
    assert reason(verifier, forge.token(forge.key(), body=claims(exp=1))) == "CREDENTIALS_INVALID"


def test_a_flood_of_tokens_is_verified_right_beyond_what_is_remembered(
    monkeypatch: pytest.MonkeyPatch, verifier: TokenVerifier, key: ECKey
) -> None:
    monkeypatch.setattr("services.gateway.tokens._CACHED_TOKENS", 4)
    tokens = [forge.token(key, body=claims(sub=f"person {number}")) for number in range(12)]
    for _ in range(2):
        assert [verifier.verify(token).person_id for token in tokens] == [f"person {number}" for number in range(12)]


def test_a_withdrawn_key_is_refused_after_the_reload_also_for_tokens_seen_before(
    verifier: TokenVerifier, key: ECKey, tmp_path: Path
) -> None:
    token = forge.token(key)
    verifier.verify(token)
    forge.publish(tmp_path, "home", forge.key("k2"))
    verifier.reload()
    assert reason(verifier, token) == "CREDENTIALS_INVALID"


async def test_a_new_key_and_a_swapped_mount_are_seen_soon(tmp_path: Path, clock: Clock) -> None:
    """The directory is laid out as Kubernetes mounts it: links into `..data`, itself a link that is swapped."""
    first, second = forge.key("k1"), forge.key("k2")
    forge.publish(tmp_path / "..v1", "home", first)
    forge.publish(tmp_path / "..v2", "home", second)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "home.json").symlink_to("..data/home.json")
    verifier = TokenVerifier(tmp_path, forge.ISSUER, forge.AUDIENCE, clock=clock)
    old, new = forge.token(first), forge.token(second, header(kid="k2"))
    async with verifier.watching():
        assert verifier.verify(old) == WHO
        (tmp_path / "..next").symlink_to("..v2")
        (tmp_path / "..next").rename(tmp_path / "..data")
        await until_accepted(verifier, new)
        assert reason(verifier, old) == "CREDENTIALS_INVALID"
        forge.publish(tmp_path, "peer", first)
        await until_accepted(verifier, old)


async def until_accepted(verifier: TokenVerifier, token: str) -> None:
    for _ in range(500):
        try:
            verifier.verify(token)
        except Unauthenticated:
            await asyncio.sleep(0.02)
        else:
            return
    pytest.fail("the key was not seen within 10 s")


def test_without_the_directory_the_process_ends_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cannot be read: No such file or directory"):
        TokenVerifier(tmp_path / "missing", forge.ISSUER, forge.AUDIENCE)


def test_what_is_published_is_what_is_verified_with(verifier: TokenVerifier, key: ECKey) -> None:
    assert verifier.public_keys() == {"keys": [key.as_dict(private=False)]}
