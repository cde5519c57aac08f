"""People over a store in memory, with real digests and real tokens."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import Conflict, Exhausted, FocusError, InvalidRequest, NotFound, Unauthenticated
from services.gateway.tokens import Principal, TokenVerifier
from services.session import passwords, signing_keys
from services.session.passwords import Cost, Passwords, Verdict
from services.session.people import People, Person, Tokens
from services.session.refresh_tokens import RefreshToken
from services.session.signing_keys import SigningKeys
from services.session.tokens import AccessTokens
from tests.contract.session.fake_people import FakePeople

PASSWORD = "correct horse battery"
OTHERS_TOKEN = RefreshToken(uuid.UUID(int=1), b"s" * 32).text
ISSUER, AUDIENCE = "https://focus.test", "focus"


class CountingPasswords:
    """Real digests; notes for which stored digest each check was made."""

    def __init__(self, real: Passwords) -> None:
        self._real = real
        self.checked: list[str | None] = []

    async def digest(self, password: str) -> str:
        return await self._real.digest(password)

    async def check(self, stored: str | None, password: str) -> Verdict:
        self.checked.append(stored)
        return await self._real.check(stored, password)


class House:
    """People, their store and somebody who verifies their tokens."""

    def __init__(self, store: FakePeople, hashing: CountingPasswords, keys: Path) -> None:
        signing_keys.provide(keys / "s", keys / "j", "local")
        minter = AccessTokens(SigningKeys(keys / "s"), ISSUER, AUDIENCE)
        self.store = store
        self.hashing = hashing
        self.people = People(store, hashing, minter, api_keys_per_person=2)
        self._verifier = TokenVerifier(keys / "j", ISSUER, AUDIENCE)

    def owner(self, tokens: Tokens) -> Principal:
        assert tokens.expires_in == 180
        return self._verifier.verify(tokens.access_token)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with passwords.pooled(Cost(memory_kib=8, passes=1, lanes=1), threads=1, waiting=100) as hashing:
        yield House(FakePeople(), CountingPasswords(hashing), tmp_path)


def fails(kind: type[FocusError], reason: str) -> pytest.RaisesExc[FocusError]:
    return pytest.RaisesExc(kind, check=lambda err: err.reason_name == reason)


async def test_who_signs_up_is_signed_in_and_can_sign_in_again(house: House) -> None:
    new = await house.people.sign_up(" Ada@Example.org ", PASSWORD, "Ada")
    again = await house.people.issue_token("ada@example.ORG", PASSWORD)
    assert house.owner(new) == house.owner(again) == Principal(new.person.tenant_id, new.person.person_id)
    assert new.refresh_token != again.refresh_token


@pytest.mark.parametrize("email", ["", "ada", "ada@", "ada example.org", "a" * 250 + "@b.de", "ada\0@example.org"])
async def test_sign_up_refuses_what_is_no_address(house: House, email: str) -> None:
    with fails(InvalidRequest, "INVALID_ARGUMENT") as caught:
        await house.people.sign_up(email, PASSWORD, "")
    assert caught.value.metadata == {"field": "email"}


@pytest.mark.parametrize("password", ["", "x" * 9, "x" * 1025])
async def test_passwords_have_10_to_1024_characters(house: House, password: str) -> None:
    with fails(InvalidRequest, "INVALID_ARGUMENT") as caught:
        await house.people.sign_up("ada@example.org", password, "")
    assert caught.value.metadata == {"field": "password"}


@pytest.mark.parametrize("password", ["x" * 10, "x" * 1024, "\U0001f510" * 10, "nul \0 is fine"])
async def test_any_password_of_that_length_signs_in(house: House, password: str) -> None:
    await house.people.sign_up("ada@example.org", password, "")
    assert house.owner(await house.people.issue_token("ada@example.org", password))


@pytest.mark.parametrize("name", ["x" * 201, "two\nlines", "nul\0"])
async def test_a_display_name_is_one_short_line(house: House, name: str) -> None:
    with fails(InvalidRequest, "INVALID_ARGUMENT"):
        await house.people.sign_up("ada@example.org", PASSWORD, name)
    assert house.store.accounts == {}


async def test_an_address_signs_up_once_also_at_the_same_time(house: House) -> None:
    results = await asyncio.gather(
        *(house.people.sign_up(email, PASSWORD, "") for email in ("ada@example.org", "ADA@example.org")),
        return_exceptions=True,
    )
    (taken,) = (result for result in results if isinstance(result, Conflict))
    assert taken.reason == ErrorReason.ERROR_REASON_EMAIL_TAKEN
    assert len(house.store.accounts) == 1


async def test_sign_in_fails_alike_for_every_cause_after_one_digest(house: House) -> None:
    """Neither text nor work tells whether there is such a person."""
    await house.people.sign_up("ada@example.org", PASSWORD, "")
    messages = set()
    for email in ("ada@example.org", "bob@example.org", "no address"):
        with fails(Unauthenticated, "SIGN_IN_FAILED") as caught:
            await house.people.issue_token(email, PASSWORD + "!")
        messages.add(caught.value.message)
    assert len(messages) == 1
    assert len(house.hashing.checked) == 3
    assert house.hashing.checked[1:] == [None, None]


async def test_a_cheap_digest_is_replaced_when_its_owner_signs_in(house: House, tmp_path: Path) -> None:
    await house.people.sign_up("ada@example.org", PASSWORD, "")
    async with passwords.pooled(Cost(memory_kib=64, passes=1, lanes=1), threads=1, waiting=9) as dearer:
        later = House(house.store, CountingPasswords(dearer), tmp_path)
        await later.people.issue_token("ada@example.org", PASSWORD)
        assert house.store.accounts["ada@example.org"].password_hash.startswith("$argon2id$v=19$m=64,")
        assert later.owner(await later.people.issue_token("ada@example.org", PASSWORD))


async def test_refreshing_gives_new_tokens_of_the_same_person(house: House) -> None:
    new = await house.people.sign_up("ada@example.org", PASSWORD, "")
    second = await house.people.refresh(new.refresh_token)
    third = await house.people.refresh(second.refresh_token)
    assert house.owner(new) == house.owner(second) == house.owner(third)
    assert len({new.refresh_token, second.refresh_token, third.refresh_token}) == 3


async def test_tabs_that_refresh_at_once_get_the_same_refresh_token(house: House) -> None:
    new = await house.people.sign_up("ada@example.org", PASSWORD, "")
    tabs = await asyncio.gather(*(house.people.refresh(new.refresh_token) for _ in range(5)))
    assert len({tab.refresh_token for tab in tabs}) == 1
    assert await house.people.refresh(tabs[0].refresh_token)


async def test_reuse_of_an_old_refresh_token_ends_the_whole_sign_in(house: House) -> None:
    new = await house.people.sign_up("ada@example.org", PASSWORD, "")
    second = await house.people.refresh(new.refresh_token)
    third = await house.people.refresh(second.refresh_token)
    with fails(Unauthenticated, "REFRESH_TOKEN_REUSED"):
        await house.people.refresh(new.refresh_token)
    with fails(Unauthenticated, "CREDENTIALS_INVALID"):
        await house.people.refresh(third.refresh_token)


@pytest.mark.parametrize("token", ["", "fr_short", OTHERS_TOKEN, "fk_" + "A" * 64])
async def test_an_unknown_refresh_token_is_invalid_and_logs_nobody_out(house: House, token: str) -> None:
    with fails(Unauthenticated, "CREDENTIALS_INVALID"):
        await house.people.refresh(token)
    await house.people.logout(token)


async def test_logout_ends_this_sign_in_and_no_other(house: House) -> None:
    laptop = await house.people.sign_up("ada@example.org", PASSWORD, "")
    phone = await house.people.issue_token("ada@example.org", PASSWORD)
    await house.people.logout(laptop.refresh_token)
    await house.people.logout(laptop.refresh_token)
    with fails(Unauthenticated, "CREDENTIALS_INVALID"):
        await house.people.refresh(laptop.refresh_token)
    assert await house.people.refresh(phone.refresh_token)


async def test_an_api_key_gives_access_tokens_but_no_refresh_token(house: House) -> None:
    new = await house.people.sign_up("ada@example.org", PASSWORD, "")
    key_id, api_key = await house.people.create_api_key(new.person, " my laptop ")
    tokens = await house.people.exchange_api_key(api_key)
    assert (house.owner(tokens), tokens.refresh_token) == (house.owner(new), "")
    assert uuid.UUID(key_id)
    assert api_key.startswith("fk_")
    assert len(api_key) == 46


@pytest.mark.parametrize("api_key", ["", "fk_", "fk_" + "A" * 43, OTHERS_TOKEN, "fk_" + "ä" * 43])
async def test_an_unknown_api_key_is_invalid(house: House, api_key: str) -> None:
    with fails(Unauthenticated, "CREDENTIALS_INVALID"):
        await house.people.exchange_api_key(api_key)


async def test_a_person_has_so_many_api_keys_and_no_more(house: House) -> None:
    new = await house.people.sign_up("ada@example.org", PASSWORD, "")
    for _ in range(2):
        await house.people.create_api_key(new.person, "")
    with fails(Exhausted, "LIMIT_REACHED") as caught:
        await house.people.create_api_key(new.person, "")
    assert caught.value.metadata == {"limit": "2"}


async def test_api_keys_are_for_people_who_exist(house: House) -> None:
    with fails(Unauthenticated, "CREDENTIALS_INVALID"):
        await house.people.create_api_key(Person(str(uuid.uuid4()), str(uuid.uuid4())), "")
    for person in (Person("", str(uuid.uuid4())), Person(str(uuid.uuid4()), "ada")):
        with fails(InvalidRequest, "INVALID_ARGUMENT"):
            await house.people.create_api_key(person, "")


async def test_a_label_is_one_short_line(house: House) -> None:
    new = await house.people.sign_up("ada@example.org", PASSWORD, "")
    for label in ("x" * 101, "two\nlines"):
        with fails(InvalidRequest, "INVALID_ARGUMENT") as caught:
            await house.people.create_api_key(new.person, label)
        assert caught.value.metadata == {"field": "label"}


async def test_a_revoked_key_gives_no_token_and_may_be_revoked_again(house: House) -> None:
    new = await house.people.sign_up("ada@example.org", PASSWORD, "")
    key_id, api_key = await house.people.create_api_key(new.person, "laptop")
    (listed,) = await house.people.api_keys(new.person)
    assert (listed.key_id, listed.label) == (key_id, "laptop")
    for _ in range(2):
        await house.people.revoke_api_key(new.person, key_id)
    assert await house.people.api_keys(new.person) == []
    with fails(Unauthenticated, "CREDENTIALS_INVALID"):
        await house.people.exchange_api_key(api_key)


async def test_anothers_key_is_answered_like_one_that_never_was(house: House) -> None:
    ada = await house.people.sign_up("ada@example.org", PASSWORD, "")
    bob = await house.people.sign_up("bob@example.org", PASSWORD, "")
    key_id, api_key = await house.people.create_api_key(ada.person, "")
    said = []
    for one in (key_id, str(uuid.uuid4())):
        with fails(NotFound, "API_KEY_NOT_FOUND") as caught:
            await house.people.revoke_api_key(bob.person, one)
        said.append((caught.value.message, caught.value.metadata))
    assert said[0] == said[1]
    assert (await house.people.exchange_api_key(api_key)).person == ada.person
    with fails(InvalidRequest, "INVALID_ARGUMENT"):
        await house.people.revoke_api_key(ada.person, "fk_")
