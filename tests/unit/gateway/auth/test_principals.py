"""Principals over a session service in memory that can be slow, away or forgetful."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import DeadlineExceeded, FocusError, Internal, Unauthenticated, Unavailable
from services.gateway.principals import Principals
from services.gateway.tokens import Principal, TokenVerifier
from tests.unit.gateway.auth import forge

ADA, BOB = Principal("tenant-a", "ada"), Principal("tenant-b", "bob")
ADAS_KEY, BOBS_KEY, NO_KEY = ("fk_" + letter * 43 for letter in "ABC")


class Session:
    """Knows API keys and gives tokens for them, as AuthService.ExchangeApiKey does."""

    def __init__(self) -> None:
        self.signing_key = forge.key()
        self.now = forge.NOW
        self.owners = {ADAS_KEY: ADA, BOBS_KEY: BOB}
        self.failure: FocusError | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.calls = 0

    def clock(self) -> float:
        return self.now

    async def exchange(self, api_key: str) -> tuple[str, float]:
        self.calls += 1
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        owner = self.owners.get(api_key)
        if owner is None:
            raise Unauthenticated("unknown")
        body = forge.claims(
            sub=owner.person_id, tid=owner.tenant_id, iat=int(self.now), exp=int(self.now) + 180, jti=str(self.calls)
        )
        return forge.token(self.signing_key, body=body), 180.0


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
async def principals(session: Session, tmp_path: Path) -> AsyncIterator[Principals]:
    forge.publish(tmp_path, "home", session.signing_key)
    verifier = TokenVerifier(tmp_path, forge.ISSUER, forge.AUDIENCE, clock=session.clock)
    principals = Principals(verifier, session.exchange, clock=session.clock)
    async with principals.running():
        yield principals


def bearer(credential: str) -> str:
    return f"Bearer {credential}"


async def failure(principals: Principals, header: str | None) -> FocusError:
    with pytest.raises(FocusError) as caught:
        await principals.authenticate(header)
    return caught.value


async def settled() -> None:
    """Lets what runs in the background come to its end; it waits for nothing outside."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", ADAS_KEY, "Bearer a b", "Bearer\tx"])
async def test_without_a_bearer_credential_it_is_missing(principals: Principals, header: str | None) -> None:
    assert (await failure(principals, header)).reason_name == "CREDENTIALS_MISSING"


async def test_an_access_token_is_verified_without_the_session_service(
    principals: Principals, session: Session
) -> None:
    session.failure = Unavailable("away")
    token = forge.token(session.signing_key)
    assert await principals.authenticate(f"bearer  {token}") == Principal("tenant", "person")
    assert (await failure(principals, bearer(token[:-2]))).reason_name == "CREDENTIALS_INVALID"
    session.now += 1000
    assert (await failure(principals, bearer(token))).reason_name == "TOKEN_EXPIRED"
    assert session.calls == 0


async def test_an_api_key_is_exchanged_once_for_all_requests_of_a_tokens_life(
    principals: Principals, session: Session
) -> None:
    for _ in range(10):
        assert await principals.authenticate(bearer(ADAS_KEY)) == ADA
        session.now += 10
    assert await principals.authenticate(bearer(BOBS_KEY)) == BOB
    assert session.calls == 2


async def test_requests_at_the_same_time_share_one_exchange(principals: Principals, session: Session) -> None:
    session.open.clear()
    requests = [asyncio.create_task(principals.authenticate(bearer(ADAS_KEY))) for _ in range(50)]
    await settled()
    requests[0].cancel()  # the one that began it leaves
    session.open.set()
    found = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [ADA] * 49
    assert session.calls == 1


async def test_a_key_in_use_gets_its_next_token_before_the_old_one_ends(
    principals: Principals, session: Session
) -> None:
    await principals.authenticate(bearer(ADAS_KEY))
    session.now += 130
    session.open.clear()  # nobody waits for it
    assert await principals.authenticate(bearer(ADAS_KEY)) == ADA
    session.open.set()
    await settled()
    session.failure = Unavailable("away")
    session.now += 120  # the first token has ended by now
    assert await principals.authenticate(bearer(ADAS_KEY)) == ADA


async def test_while_the_store_is_away_a_kept_token_is_used_to_its_end(
    principals: Principals, session: Session
) -> None:
    await principals.authenticate(bearer(ADAS_KEY))
    session.failure = Unavailable("away", ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, retry_after=1.0)
    for _ in range(179):
        session.now += 1
        assert await principals.authenticate(bearer(ADAS_KEY)) == ADA
        await settled()
    session.now += 1
    err = await failure(principals, bearer(ADAS_KEY))
    assert (type(err), err.reason_name, err.retry_after) == (Unavailable, "STORE_UNAVAILABLE", 1.0)
    session.failure = None
    session.now += 2
    assert await principals.authenticate(bearer(ADAS_KEY)) == ADA


@pytest.mark.parametrize("trouble", [Unavailable("away"), DeadlineExceeded("slow"), Unavailable("starting")])
async def test_a_store_that_is_away_never_makes_a_key_invalid(
    principals: Principals, session: Session, trouble: FocusError
) -> None:
    session.failure = trouble
    for _ in range(5):
        assert isinstance(await failure(principals, bearer(ADAS_KEY)), Unavailable)
    assert session.calls == 1  # asked again a second later, not for every request
    session.failure = None
    session.now += 1.5
    assert await principals.authenticate(bearer(ADAS_KEY)) == ADA


async def test_a_defect_of_the_session_service_is_no_refusal(principals: Principals, session: Session) -> None:
    session.failure = Internal("a defect")
    assert isinstance(await failure(principals, bearer(ADAS_KEY)), Internal)


async def test_an_unknown_key_is_remembered_for_a_few_seconds(principals: Principals, session: Session) -> None:
    for _ in range(3):
        assert (await failure(principals, bearer(NO_KEY))).reason_name == "CREDENTIALS_INVALID"
    assert session.calls == 1
    session.owners[NO_KEY] = BOB
    session.now += 6
    assert await principals.authenticate(bearer(NO_KEY)) == BOB


@pytest.mark.parametrize("key", ["fk_", "fk_short", ADAS_KEY + "A", "fk_" + "é" * 43, "fk_" + "A" * 42 + "."])
async def test_what_cannot_be_a_key_is_not_asked_for(principals: Principals, session: Session, key: str) -> None:
    assert (await failure(principals, bearer(key))).reason_name == "CREDENTIALS_INVALID"
    assert session.calls == 0


async def test_a_revoked_key_ends_when_its_next_token_is_due(principals: Principals, session: Session) -> None:
    await principals.authenticate(bearer(ADAS_KEY))
    del session.owners[ADAS_KEY]
    session.now += 130
    assert await principals.authenticate(bearer(ADAS_KEY)) == ADA
    await settled()
    assert (await failure(principals, bearer(ADAS_KEY))).reason_name == "CREDENTIALS_INVALID"


async def test_a_token_that_does_not_verify_is_our_fault_and_not_the_keys(
    principals: Principals, session: Session
) -> None:
    session.signing_key = forge.key()
    assert isinstance(await failure(principals, bearer(ADAS_KEY)), Unavailable)


async def test_a_flood_of_unknown_keys_does_not_push_out_known_ones(
    monkeypatch: pytest.MonkeyPatch, principals: Principals, session: Session
) -> None:
    monkeypatch.setattr("services.gateway.principals._KEPT_REFUSALS", 3)
    monkeypatch.setattr("services.gateway.principals._KEPT_KEYS", 2)
    await principals.authenticate(bearer(ADAS_KEY))
    for number in range(20):
        await failure(principals, bearer(f"fk_{number:043}"))
    session.failure = Unavailable("away")
    assert await principals.authenticate(bearer(ADAS_KEY)) == ADA


async def test_the_key_not_used_for_longest_goes_first(
    monkeypatch: pytest.MonkeyPatch, principals: Principals, session: Session
) -> None:
    monkeypatch.setattr("services.gateway.principals._KEPT_KEYS", 2)
    session.owners[NO_KEY] = BOB
    for key in (ADAS_KEY, BOBS_KEY, ADAS_KEY, NO_KEY):
        await principals.authenticate(bearer(key))
    session.failure = Unavailable("away")
    assert await principals.authenticate(bearer(ADAS_KEY)) == ADA
    assert isinstance(await failure(principals, bearer(BOBS_KEY)), Unavailable)


async def test_closing_ends_what_runs_in_the_background(session: Session, tmp_path: Path) -> None:
    forge.publish(tmp_path, "home", session.signing_key)
    verifier = TokenVerifier(tmp_path, forge.ISSUER, forge.AUDIENCE, clock=session.clock)
    principals = Principals(verifier, session.exchange, clock=session.clock)
    async with principals.running():
        session.open.clear()
        request = asyncio.create_task(principals.authenticate(bearer(ADAS_KEY)))
        await settled()
    assert (await asyncio.gather(request, return_exceptions=True))[0].__class__ is asyncio.CancelledError
