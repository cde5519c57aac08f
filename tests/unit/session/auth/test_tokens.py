import json
from pathlib import Path

from joserfc import jws

from services.gateway.tokens import Principal, TokenVerifier
from services.session import signing_keys
from services.session.signing_keys import SigningKeys
from services.session.tokens import AccessTokens

ISSUER, AUDIENCE = "https://focus.test", "focus"


def test_a_token_has_the_claims_of_rfc_9068_and_lives_180_s(tmp_path: Path) -> None:
    key = signing_keys.provide(tmp_path / "s", tmp_path / "j", "local")
    minter = AccessTokens(SigningKeys(tmp_path / "s"), ISSUER, AUDIENCE, clock=lambda: 1_800_000_000.9)
    signed = jws.deserialize_compact(minter.mint(tenant_id="tenant", person_id="person"), key.key, ["ES256"])
    claims = json.loads(signed.payload or b"")
    assert signed.headers() == {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    assert claims.pop("jti")
    assert claims == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "person",
        "tid": "tenant",
        "iat": 1_800_000_000,
        "exp": 1_800_000_180,
    }


def test_every_token_has_an_id_of_its_own_and_the_gateway_takes_it(tmp_path: Path) -> None:
    signing_keys.provide(tmp_path / "s", tmp_path / "j", "local")
    minter = AccessTokens(SigningKeys(tmp_path / "s"), ISSUER, AUDIENCE)
    tokens = {minter.mint(tenant_id="tenant", person_id="person") for _ in range(3)}
    verifier = TokenVerifier(tmp_path / "j", ISSUER, AUDIENCE)
    assert len(tokens) == 3
    assert {verifier.verify(token) for token in tokens} == {Principal("tenant", "person")}
