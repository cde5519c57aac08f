"""Public vectors: Wycheproof's JWS and JWK sets, and the examples of RFC 7520.

This verifier takes ES256 only, so every other algorithm's vectors must be refused,
also those that are valid in themselves.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, import_key

from services.gateway import jwks, jws

DATA = Path(__file__).parents[3] / "data"

# Vectors whose label is wrong, by tcId of json_web_signature_test. Not followed; that each is refused here
# is right, for the reason told.
DEFECTS = {
    346: "labelled valid, but header alg PS384 differs from the key's PS256",
    347: "labelled valid, but header alg ES512 differs from the key's ES521, which is no algorithm",
    350: "labelled valid, but header alg PS384 differs from the key's PS256",
    351: "labelled valid, but header alg ES512 differs from the key's ES521, which is no algorithm",
    367: "labelled invalid for its padding, but well-formed",
    370: "labelled invalid for its padding, but well-formed",
    372: "labelled valid, but '?' stands within the header",
    373: "labelled valid, but '?' stands within the payload",
}


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / "wycheproof" / name).read_text())["testGroups"]
    return found


def accepted(token: str, text: bytes) -> bool:
    try:
        jws.verify(token, jwks.parse(text))
    except (jws.TokenMalformed, jwks.KeySetMalformed):
        return False
    return True


def test_of_wycheproofs_401_signatures_exactly_the_valid_es256_ones_are_accepted() -> None:
    expected, actual = {}, {}
    for group in groups("json_web_signature_test.json"):
        public = group.get("public", group["private"])
        for test in group["tests"]:
            expected[test["tcId"]] = test["result"] == "valid" and public.get("alg") == "ES256"
            actual[test["tcId"]] = accepted(test["jws"], json.dumps({"keys": [public]}).encode())
    assert len(expected) == 401
    assert [number for number, valid in expected.items() if valid] == [18, 378]
    assert actual == expected
    assert not any(actual[number] for number in DEFECTS)


def test_other_algorithms_are_refused_even_with_their_key_at_hand() -> None:
    """The key set leaves such keys out; this is the second wall behind it."""
    tried = 0
    for group in groups("json_web_signature_test.json"):
        public = group.get("public", group["private"])
        if public.get("alg") == "ES256" or public.get("crv") == "P-256":
            continue
        try:
            key: Any = import_key({**public, "alg": None} if public.get("alg") == "ES521" else public)
        except JoseError:
            continue
        for test in group["tests"]:
            tried += 1
            with pytest.raises(jws.TokenMalformed):
                jws.verify(test["jws"], {public["kid"]: key})
    assert tried > 300


def test_no_key_set_of_wycheproof_leads_to_acceptance() -> None:
    """All of them are broken, hold secrets or are for other algorithms."""
    for group in groups("json_web_key_test.json"):
        text = json.dumps(group.get("public", group["private"])).encode()
        assert [test["tcId"] for test in group["tests"] if accepted(test["jws"], text)] == []


def test_a_wycheproof_key_off_the_curve_spoils_its_set() -> None:
    (group,) = (group for group in groups("json_web_key_test.json") if group["comment"] == "invalid_point")
    with pytest.raises(jwks.KeySetMalformed):
        jwks.parse(json.dumps(group["public"]).encode())


@pytest.mark.parametrize("path", sorted((DATA / "jose-cookbook").glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_of_rfc_7520_are_for_other_algorithms(path: Path) -> None:
    example = json.loads(path.read_text())
    key = {
        name: value for name, value in example["input"]["key"].items() if name not in ("d", "p", "q", "dp", "dq", "qi")
    }
    assert not accepted(example["output"]["compact"], json.dumps({"keys": [key]}).encode())


def test_a_token_that_names_no_key_is_refused() -> None:
    """RFC 7515 appendix A.3: a good ES256 signature, no kid."""
    example = (
        "eyJhbGciOiJFUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    key = ECKey.import_key(
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }
    )
    with pytest.raises(jws.TokenMalformed, match="unknown key"):
        jws.verify(example, {"": key})
