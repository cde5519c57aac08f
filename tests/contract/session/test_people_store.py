"""What every store of people promises: the fake and PostgreSQL against one suite."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import pytest

from services.session import refresh_tokens
from services.session.email_address import EmailAddress, parse
from services.session.people import PeopleStore, Person, Reused, Rotated
from services.session.refresh_tokens import RefreshToken
from services.session.store.people import PostgresPeople
from services.session.store.pool import Pool
from tests.contract.session.fake_people import FakePeople

MONTH = 30 * 24 * 3600.0
GRACE = 10.0


@dataclass
class House:
    """A store and a way to let time pass for it."""

    store: PeopleStore
    pass_time: Callable[[float], Awaitable[None]]

    async def person(self, email: str = "ada@example.org") -> Person:
        person = await self.store.create_person(address(email), "digest", "Ada")
        assert person is not None
        return person

    async def signed_in(self, lifetime: float = MONTH) -> RefreshToken:
        token = refresh_tokens.first()
        assert await self.store.open_family(await self.person(), token.family, token.digest, lifetime)
        return token

    async def rotate(self, token: RefreshToken) -> Rotated | None:
        return await self.store.rotate(token, refresh_tokens.salt(), lifetime=MONTH, grace=GRACE)


def address(text: str) -> EmailAddress:
    found = parse(text)
    assert found is not None
    return found


@pytest.fixture(params=["fake", "postgres"])
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    if request.param == "fake":
        now = 1000.0

        async def pass_fake_time(seconds: float) -> None:
            nonlocal now
            now += seconds

        yield House(FakePeople(lambda: now), pass_fake_time)
        return
    url = request.getfixturevalue("database_url")
    pool = Pool(url, size=10, timeout=10)

    async def age(seconds: float) -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(
                "UPDATE refresh_families SET rotated_at = rotated_at - $1 * interval '1 s',"
                " expires_at = expires_at - $1 * interval '1 s'",
                seconds,
            )
        finally:
            await connection.close()

    try:
        yield House(PostgresPeople(pool), age)
    finally:
        await pool.close()


async def test_a_person_is_found_by_the_address_in_any_case(house: House) -> None:
    person = await house.person("Ada@Example.org")
    account = await house.store.find_account(address("ada@EXAMPLE.org").key)
    assert account is not None
    assert (person, "digest") == (account.person, account.password_hash)
    assert await house.store.find_account("bob@example.org") is None


async def test_an_address_belongs_to_one_person_also_when_two_sign_up_at_once(house: House) -> None:
    made = await asyncio.gather(
        *(house.store.create_person(address(f"Ada{suffix}@example.org"), "digest", "") for suffix in [""] * 8)
    )
    assert sum(person is not None for person in made) == 1


async def test_each_person_has_a_tenant_of_their_own(house: House) -> None:
    ada, bob = await house.person("ada@example.org"), await house.person("bob@example.org")
    assert len({ada.tenant_id, ada.person_id, bob.tenant_id, bob.person_id}) == 4


async def test_a_digest_is_renewed_only_if_it_is_still_the_old_one(house: House) -> None:
    person = await house.person()
    await house.store.renew_password_hash(person, "another", "lost")
    await house.store.renew_password_hash(person, "digest", "renewed")
    account = await house.store.find_account("ada@example.org")
    assert account is not None
    assert account.password_hash == "renewed"


async def test_rotation_gives_the_person_and_makes_the_successor_the_token(house: House) -> None:
    token = await house.signed_in()
    first = await house.rotate(token)
    assert first is not None
    second = await house.rotate(token.successor(first.salt))
    assert second is not None
    assert first.person == second.person


async def test_the_token_just_used_gives_the_same_successor(house: House) -> None:
    token = await house.signed_in()
    first = await house.rotate(token)
    await house.pass_time(GRACE - 3)
    assert await house.rotate(token) == first


async def test_of_50_refreshes_at_once_all_get_one_successor(house: House) -> None:
    token = await house.signed_in()
    given = await asyncio.gather(*(house.rotate(token) for _ in range(50)))
    assert len({rotated.salt for rotated in given if rotated}) == 1
    assert None not in given


async def test_a_repeat_after_the_grace_revokes_the_family(house: House) -> None:
    token = await house.signed_in()
    rotated = await house.rotate(token)
    assert rotated is not None
    await house.pass_time(GRACE + 1)
    with pytest.raises(Reused):
        await house.rotate(token)
    assert await house.rotate(token.successor(rotated.salt)) is None


async def test_a_grandparent_revokes_the_family_also_within_the_grace(house: House) -> None:
    token = await house.signed_in()
    first = await house.rotate(token)
    assert first is not None
    child = token.successor(first.salt)
    second = await house.rotate(child)
    assert second is not None
    with pytest.raises(Reused):
        await house.rotate(token)
    assert await house.rotate(child.successor(second.salt)) is None
    assert await house.rotate(child) is None


async def test_a_forged_token_of_a_known_family_revokes_it(house: House) -> None:
    """Who knows the family's id has held a token of it: the secret is an old one, or made up."""
    token = await house.signed_in()
    with pytest.raises(Reused):
        await house.rotate(RefreshToken(token.family, b"x" * 32))
    assert await house.rotate(token) is None


async def test_every_rotation_starts_the_lifetime_anew(house: House) -> None:
    token = await house.signed_in()
    for _ in range(3):
        await house.pass_time(MONTH - 60)
        rotated = await house.rotate(token)
        assert rotated is not None
        token = token.successor(rotated.salt)
    await house.pass_time(MONTH + 1)
    assert await house.rotate(token) is None


async def test_a_revoked_family_is_unknown_and_an_unknown_one_no_error(house: House) -> None:
    token = await house.signed_in()
    await house.store.revoke_family(token.family)
    await house.store.revoke_family(uuid.uuid4())
    assert await house.rotate(token) is None
    assert await house.rotate(refresh_tokens.first()) is None


async def test_revoking_beats_refreshes_that_run_at_the_same_time(house: House) -> None:
    token = await house.signed_in()
    rotating = [house.rotate(token) for _ in range(10)]
    *given, _ = await asyncio.gather(*rotating, house.store.revoke_family(token.family))
    for rotated in given:
        if rotated is not None:
            assert await house.rotate(token.successor(rotated.salt)) is None


async def test_nobody_who_does_not_exist_is_signed_in(house: House) -> None:
    token = refresh_tokens.first()
    nobody = Person(str(uuid.uuid4()), str(uuid.uuid4()))
    assert not await house.store.open_family(nobody, token.family, token.digest, MONTH)
    with pytest.raises(LookupError):
        await house.store.create_api_key(nobody, digest("a"), "", limit=1)


async def test_one_persons_sign_ins_are_independent(house: House) -> None:
    person = await house.person()
    laptop, phone = refresh_tokens.first(), refresh_tokens.first()
    for token in (laptop, phone):
        assert await house.store.open_family(person, token.family, token.digest, MONTH)
    await house.store.revoke_family(laptop.family)
    assert await house.rotate(phone) is not None


async def test_an_api_key_names_its_person(house: House) -> None:
    person = await house.person()
    key_id = await house.store.create_api_key(person, digest("a"), "laptop", limit=2)
    assert uuid.UUID(key_id)
    assert await house.store.use_api_key(digest("a")) == person
    assert await house.store.use_api_key(digest("b")) is None


async def test_nobody_gets_more_keys_than_the_limit_also_at_once(house: House) -> None:
    person, other = await house.person(), await house.person("bob@example.org")
    made = await asyncio.gather(
        *(house.store.create_api_key(person, digest(str(number)), "", limit=3) for number in range(10))
    )
    assert sum(key is not None for key in made) == 3
    assert await house.store.create_api_key(other, digest("other"), "", limit=3) is not None


async def test_keys_are_listed_newest_first_with_their_last_use(house: House) -> None:
    person, other = await house.person(), await house.person("bob@example.org")
    made = [await house.store.create_api_key(person, digest(label), label, limit=3) for label in ("one", "two")]
    await house.store.create_api_key(other, digest("other"), "other", limit=3)
    assert [(key.key_id, key.label, key.last_used_at) for key in await house.store.api_keys(person)] == [
        (made[1], "two", None),
        (made[0], "one", None),
    ]
    await house.store.use_api_key(digest("one"))
    two, one = await house.store.api_keys(person)
    assert two.last_used_at is None
    assert one.last_used_at is not None
    assert one.created_at <= one.last_used_at


async def test_a_revoked_key_is_nobodys_and_makes_room(house: House) -> None:
    person = await house.person()
    key_id = await house.store.create_api_key(person, digest("a"), "", limit=1)
    assert key_id is not None
    for _ in range(2):
        assert await house.store.revoke_api_key(person, key_id)
    assert await house.store.use_api_key(digest("a")) is None
    assert await house.store.api_keys(person) == []
    assert await house.store.create_api_key(person, digest("b"), "", limit=1) is not None


async def test_nobody_revokes_somebody_elses_key(house: House) -> None:
    person, other = await house.person(), await house.person("bob@example.org")
    key_id = await house.store.create_api_key(person, digest("a"), "", limit=1)
    assert key_id is not None
    for whose in (other, Person(person.tenant_id, other.person_id), Person(other.tenant_id, person.person_id)):
        assert not await house.store.revoke_api_key(whose, key_id)
        assert await house.store.api_keys(whose) == []
    assert not await house.store.revoke_api_key(person, str(uuid.uuid4()))
    assert await house.store.use_api_key(digest("a")) == person


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
