"""Digests with the cheapest cost: what is tested does not depend on it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import Exhausted
from services.session import passwords
from services.session.passwords import Cost, Passwords, Verdict

CHEAP = Cost(memory_kib=8, passes=1, lanes=1)


@pytest.fixture
async def cheap() -> AsyncIterator[Passwords]:
    async with passwords.pooled(CHEAP, threads=1, waiting=8) as hashing:
        yield hashing


async def test_the_right_password_is_right_and_no_other(cheap: Passwords) -> None:
    stored = await cheap.digest("correct horse battery")
    assert await cheap.check(stored, "correct horse battery") == Verdict(right=True)
    assert await cheap.check(stored, "Correct horse battery") == Verdict(right=False)


async def test_equal_passwords_have_different_argon2id_digests(cheap: Passwords) -> None:
    first, second = await cheap.digest("correct horse"), await cheap.digest("correct horse")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=8,t=1,p=1$")


async def test_two_spellings_of_one_password_are_the_same(cheap: Passwords) -> None:
    stored = await cheap.digest("pässwörter\u00a02")
    assert (await cheap.check(stored, "pa\u0308sswo\u0308rter 2")).right


@pytest.mark.parametrize("stored", [None, "", "no digest", "$argon2id$v=19$m=8,t=1,p=1$"])
async def test_nobodys_and_broken_digests_are_never_right(cheap: Passwords, stored: str | None) -> None:
    assert await cheap.check(stored, "correct horse") == Verdict(right=False)


async def test_a_digest_of_another_cost_is_renewed_where_the_password_is_right(cheap: Passwords) -> None:
    stored = await cheap.digest("correct horse")
    async with passwords.pooled(Cost(memory_kib=16, passes=1, lanes=1), threads=1, waiting=8) as dearer:
        verdict = await dearer.check(stored, "correct horse")
        assert verdict.right
        assert verdict.renewed is not None
        assert verdict.renewed.startswith("$argon2id$v=19$m=16,t=1,p=1$")
        assert await dearer.check(verdict.renewed, "correct horse") == Verdict(right=True)
        assert await dearer.check(stored, "wrong horse!") == Verdict(right=False)


async def test_the_loop_goes_on_while_a_digest_is_made() -> None:
    async with passwords.pooled(Cost(), threads=1, waiting=1) as hashing:
        digest = asyncio.create_task(hashing.digest("correct horse"))
        await asyncio.sleep(0)
        assert not digest.done()
        assert (await digest).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_more_than_may_wait_are_sent_away_and_room_comes_back(cheap: Passwords) -> None:
    results = await asyncio.gather(*(cheap.digest("correct horse") for _ in range(12)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Exhausted)]
    assert len(refused) == 4
    assert {err.reason for err in refused} == {ErrorReason.ERROR_REASON_OVERLOADED}
    assert all(err.retry_after for err in refused)
    assert await cheap.digest("correct horse")


async def test_who_leaves_makes_room(cheap: Passwords) -> None:
    leaving = [asyncio.create_task(cheap.digest("correct horse")) for _ in range(8)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert len(await asyncio.gather(*(cheap.digest("correct horse") for _ in range(8)))) == 8
