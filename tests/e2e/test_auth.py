"""A person's life: sign up, sign in, refresh, sign out; API keys; keys to verify tokens with."""

import base64
import json
import secrets
import uuid
from typing import Any

import httpx2
import pytest

from tests.harness.system import Person


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return decoded


def header(token: str) -> dict[str, Any]:
    first = token.split(".")[0]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    return decoded


def test_signing_up_gives_tokens_of_three_minutes(person: Person) -> None:
    assert person.tokens["token_type"] == "Bearer"
    assert person.tokens["expires_in"] == 180
    token = claims(person.tokens["access_token"])
    assert token["exp"] - token["iat"] == 180
    assert (token["sub"], token["tid"]) == (person.tokens["person_id"], person.tokens["tenant_id"])


def test_tokens_are_signed_with_a_published_key(person: Person, visitor: httpx2.Client) -> None:
    signed = header(person.tokens["access_token"])
    assert (signed["alg"], signed["typ"]) == ("ES256", "at+jwt")
    published = visitor.get("/.well-known/jwks.json").json()["keys"]
    assert signed["kid"] in {key["kid"] for key in published}
    assert all("d" not in key for key in published)


def test_an_address_can_be_registered_once_whatever_its_case(person: Person, visitor: httpx2.Client) -> None:
    body = {"email": person.email.upper(), "password": secrets.token_urlsafe(16)}
    reply = visitor.post("/v1/auth/signup", json=body)
    assert (reply.status_code, reply.json()["reason"]) == (409, "email_taken")


@pytest.mark.parametrize(
    "change", [{"email": "nobody"}, {"email": ""}, {"password": "short"}, {"password": ""}, {"password": 5}]
)
def test_a_bad_registration_is_refused(visitor: httpx2.Client, change: dict[str, object]) -> None:
    body = {"email": f"{secrets.token_hex(8)}@example.com", "password": secrets.token_urlsafe(16), **change}
    reply = visitor.post("/v1/auth/signup", json=body)
    assert (reply.status_code, reply.json()["reason"]) == (400, "invalid_argument")


def test_signing_in_gives_the_same_person(person: Person, visitor: httpx2.Client) -> None:
    reply = visitor.post("/v1/auth/token", json={"email": person.email, "password": person.password})
    assert reply.status_code == 200
    assert claims(reply.json()["access_token"])["sub"] == person.tokens["person_id"]


def test_a_wrong_password_and_an_unknown_address_are_told_alike(person: Person, visitor: httpx2.Client) -> None:
    seen = []
    for email in (person.email, f"{secrets.token_hex(8)}@example.com"):
        reply = visitor.post("/v1/auth/token", json={"email": email, "password": "not the password"})
        problem = reply.json()
        problem.pop("request_id")
        seen.append((reply.status_code, problem))
    assert seen[0] == seen[1]
    assert (seen[0][0], seen[0][1]["reason"]) == (401, "sign_in_failed")


def test_refreshing_gives_new_tokens_that_work(person: Person, visitor: httpx2.Client) -> None:
    reply = visitor.post("/v1/auth/refresh", json={"refresh_token": person.tokens["refresh_token"]})
    assert reply.status_code == 200
    fresh = reply.json()
    assert fresh["refresh_token"] != person.tokens["refresh_token"]
    bearer = {"Authorization": f"Bearer {fresh['access_token']}"}
    assert visitor.get("/v1/conversations", headers=bearer).status_code == 200


def test_two_tabs_that_refresh_at_once_are_both_kept_signed_in(person: Person, visitor: httpx2.Client) -> None:
    body = {"refresh_token": person.tokens["refresh_token"]}
    first, second = (visitor.post("/v1/auth/refresh", json=body).json() for _ in range(2))
    assert first["refresh_token"] == second["refresh_token"]
    assert visitor.post("/v1/auth/refresh", json={"refresh_token": first["refresh_token"]}).status_code == 200


def test_a_grandparent_ends_the_whole_family(person: Person, visitor: httpx2.Client) -> None:
    tokens = [person.tokens["refresh_token"]]
    for _ in range(2):
        tokens.append(visitor.post("/v1/auth/refresh", json={"refresh_token": tokens[-1]}).json()["refresh_token"])
    stolen = visitor.post("/v1/auth/refresh", json={"refresh_token": tokens[0]})
    assert (stolen.status_code, stolen.json()["reason"]) == (401, "refresh_token_reused")
    assert visitor.post("/v1/auth/refresh", json={"refresh_token": tokens[-1]}).status_code == 401


def test_after_signing_out_the_refresh_token_is_worthless(person: Person, visitor: httpx2.Client) -> None:
    body = {"refresh_token": person.tokens["refresh_token"]}
    assert visitor.post("/v1/auth/logout", json=body).status_code == 204
    assert visitor.post("/v1/auth/refresh", json=body).status_code == 401


def test_signing_out_with_an_unknown_token_is_no_error(visitor: httpx2.Client) -> None:
    assert visitor.post("/v1/auth/logout", json={"refresh_token": "fr_unknown"}).status_code == 204


def test_an_api_key_is_its_owner(person: Person, visitor: httpx2.Client) -> None:
    reply = person.client.post("/v1/api-keys", json={"label": "nightly"})
    assert reply.status_code == 201
    key = reply.json()["api_key"]
    assert key.startswith("fk_")
    mine = person.client.post("/v1/conversations", json={}).json()["conversation_id"]
    bearer = {"Authorization": f"Bearer {key}"}
    listed = visitor.get("/v1/conversations", headers=bearer).json()["conversations"]
    assert [one["conversation_id"] for one in listed] == [mine]


def test_an_api_key_is_listed_without_its_text_and_revoked(person: Person, another: Person) -> None:
    """A key that no server has seen yet stops at once; another person's is as if it were not there."""
    made = person.client.post("/v1/api-keys", json={"label": "nightly"}).json()
    reply = person.client.get("/v1/api-keys")
    (listed,) = reply.json()["keys"]
    assert (listed["key_id"], listed["label"], listed["last_used_at"]) == (made["key_id"], "nightly", None)
    assert made["api_key"] not in reply.text
    assert another.client.get("/v1/api-keys").json()["keys"] == []
    path = f"/v1/api-keys/{made['key_id']}"
    refused = another.client.delete(path)
    unknown = person.client.delete(f"/v1/api-keys/{uuid.uuid4()}")
    assert (refused.status_code, refused.json()["reason"]) == (404, "api_key_not_found")
    assert {**refused.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    assert [person.client.delete(path).status_code for _ in range(2)] == [204, 204]
    assert person.client.get("/v1/api-keys").json()["keys"] == []
    bearer = {"Authorization": f"Bearer {made['api_key']}"}
    assert another.client.get("/v1/conversations", headers=bearer).status_code == 401
