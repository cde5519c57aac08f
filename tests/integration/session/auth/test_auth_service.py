"""AuthService as its callers see it: over gRPC, with PostgreSQL behind it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest

from devstack.postgres import Postgres
from focus.session.v1 import auth_pb2, auth_pb2_grpc
from services.common.errors import FocusError
from services.common.rpc import client, server
from services.common.settings import GrpcSettings
from services.gateway.key_exchange import KeyExchange
from services.gateway.principals import Principals
from services.gateway.tokens import Principal, TokenVerifier
from services.session import auth, signing_keys
from services.session.settings import SessionSettings
from services.session.store.people import PostgresPeople
from services.session.store.pool import Pool

if TYPE_CHECKING:
    from focus.session.v1.auth_pb2_grpc import AuthServiceAsyncStub

PASSWORD = "correct horse battery"


@dataclass
class House:
    """A session service that listens, and somebody at the other end."""

    stub: AuthServiceAsyncStub
    verifier: TokenVerifier
    database_url: str

    async def sign_up(self, email: str = "ada@example.org") -> auth_pb2.TokenSet:
        request = auth_pb2.SignUpRequest(email=email, password=PASSWORD)
        return (await client.unary(self.stub.SignUp, request, timeout=10)).tokens

    async def sign_in(self, email: str = "ada@example.org", password: str = PASSWORD) -> auth_pb2.TokenSet:
        request = auth_pb2.IssueTokenRequest(email=email, password=password)
        return (await client.unary(self.stub.IssueToken, request, timeout=10)).tokens

    async def refresh(self, token: str) -> auth_pb2.TokenSet:
        request = auth_pb2.RefreshTokenRequest(refresh_token=token)
        return (await client.unary(self.stub.RefreshToken, request, timeout=10)).tokens

    async def create_key(self, tokens: auth_pb2.TokenSet) -> str:
        request = auth_pb2.CreateApiKeyRequest(principal=tokens.principal, label="laptop")
        return (await client.unary(self.stub.CreateApiKey, request, timeout=10)).api_key

    async def list_keys(self, tokens: auth_pb2.TokenSet) -> list[auth_pb2.ApiKey]:
        request = auth_pb2.ListApiKeysRequest(principal=tokens.principal)
        return list((await client.unary(self.stub.ListApiKeys, request, timeout=10)).keys)

    async def revoke_key(self, tokens: auth_pb2.TokenSet, key_id: str) -> None:
        request = auth_pb2.RevokeApiKeyRequest(principal=tokens.principal, key_id=key_id)
        await client.unary(self.stub.RevokeApiKey, request, timeout=10)

    async def sql(self, text: str) -> list[Any]:
        connection = await asyncpg.connect(self.database_url)
        try:
            return [tuple(row) for row in await connection.fetch(text)]
        finally:
            await connection.close()


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    signing_keys.provide(tmp_path / "signing", tmp_path / "jwks", "local")
    settings = SessionSettings(
        database_url=database_url,
        valkey_url="redis://127.0.0.1:1/0",
        signing_keys_dir=tmp_path / "signing",
        password_memory_kib=8,
        password_passes=1,
        max_api_keys=2,
    )
    async with AsyncExitStack() as stack:
        pool = Pool(database_url, timeout=10)
        stack.push_async_callback(pool.close)
        servicer = await stack.enter_async_context(auth.opened(settings, PostgresPeople(pool)))
        running = await stack.enter_async_context(
            server.serving(
                GrpcSettings(stop_grace_seconds=1),
                lambda grpc_server: auth_pb2_grpc.add_AuthServiceServicer_to_server(servicer, grpc_server),
                ["focus.session.v1.AuthService"],
            )
        )
        channel = await stack.enter_async_context(client.open_channel(f"127.0.0.1:{running.port}"))
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        verifier = TokenVerifier(tmp_path / "jwks", settings.issuer, settings.audience)
        yield House(stub, verifier, database_url)


async def reason(call: Awaitable[object]) -> str:
    with pytest.raises(FocusError) as caught:
        await call
    return caught.value.reason_name


async def test_who_signs_up_can_sign_in_refresh_and_leave(house: House) -> None:
    new = await house.sign_up()
    again = await house.sign_in("ADA@example.org")
    later = await house.refresh(again.refresh_token)
    who = Principal(new.principal.tenant_id, new.principal.person_id)
    assert [house.verifier.verify(tokens.access_token) for tokens in (new, again, later)] == [who] * 3
    assert {tokens.expires_in for tokens in (new, again, later)} == {180}
    assert uuid.UUID(who.tenant_id) != uuid.UUID(who.person_id)
    await client.unary(house.stub.Logout, auth_pb2.LogoutRequest(refresh_token=later.refresh_token), timeout=10)
    assert await reason(house.refresh(later.refresh_token)) == "CREDENTIALS_INVALID"


async def test_failures_have_the_codes_that_the_protocol_promises(house: House) -> None:
    await house.sign_up()
    bad_password = auth_pb2.SignUpRequest(email="bob@example.org", password="short")
    codes = []
    for call in (
        house.stub.SignUp(auth_pb2.SignUpRequest(email="ada@example.org", password=PASSWORD)),
        house.stub.SignUp(bad_password),
        house.stub.IssueToken(auth_pb2.IssueTokenRequest(email="ada@example.org", password=PASSWORD + "!")),
        house.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token="fr_")),
        house.stub.ExchangeApiKey(auth_pb2.ExchangeApiKeyRequest(api_key="fk_")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        codes.append(caught.value.code())
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    assert codes == [grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.INVALID_ARGUMENT, *[unauthenticated] * 3]


async def test_sign_ups_of_one_address_at_once_make_one_person_and_one_tenant(house: House) -> None:
    results = await asyncio.gather(*(house.sign_up() for _ in range(6)), return_exceptions=True)
    assert sorted(getattr(result, "reason_name", "") for result in results) == ["", *["EMAIL_TAKEN"] * 5]
    assert await house.sql("SELECT count(*), (SELECT count(*) FROM tenants) FROM people") == [(1, 1)]


async def test_50_refreshes_of_one_token_at_once_get_one_successor(house: House) -> None:
    new = await house.sign_up()
    given = await asyncio.gather(*(house.refresh(new.refresh_token) for _ in range(50)))
    successors = {tokens.refresh_token for tokens in given}
    assert len(successors) == 1
    assert await house.refresh(successors.pop())


async def test_a_stolen_refresh_token_ends_the_sign_in_of_thief_and_owner(house: House) -> None:
    new = await house.sign_up()
    thief = await house.refresh(new.refresh_token)
    await house.sql("UPDATE refresh_families SET rotated_at = rotated_at - interval '11 s'")
    assert await reason(house.refresh(new.refresh_token)) == "REFRESH_TOKEN_REUSED"
    assert await reason(house.refresh(thief.refresh_token)) == "CREDENTIALS_INVALID"


async def test_no_secret_is_stored(house: House) -> None:
    new = await house.sign_up()
    later = await house.refresh(new.refresh_token)
    api_key = await house.create_key(new)
    tables = ["tenants", "people", "refresh_families", "api_keys"]
    stored = "".join([str(await house.sql(f"SELECT row_to_json({table}) FROM {table}")) for table in tables])
    # bytea is shown in hexadecimal digits
    secrets = [PASSWORD, new.refresh_token, later.refresh_token, api_key]
    assert not [secret for secret in secrets if secret in stored or secret.encode().hex() in stored]


async def test_signing_in_sweeps_the_persons_dead_sign_ins(house: House) -> None:
    first, second = await house.sign_up(), await house.sign_in()
    await house.sql("UPDATE refresh_families SET expires_at = now() - interval '1 s'")
    assert await reason(house.refresh(first.refresh_token)) == "CREDENTIALS_INVALID"
    third = await house.sign_in()
    assert await house.sql("SELECT count(*) FROM refresh_families") == [(1,)]
    assert await reason(house.refresh(second.refresh_token)) == "CREDENTIALS_INVALID"
    assert await house.refresh(third.refresh_token)


async def test_keys_beyond_the_limit_are_refused(house: House) -> None:
    new = await house.sign_up()
    made = await asyncio.gather(*(house.create_key(new) for _ in range(5)), return_exceptions=True)
    assert sorted(getattr(result, "reason_name", "") for result in made) == ["", "", *["LIMIT_REACHED"] * 3]


async def test_a_revoked_key_gives_no_token(house: House) -> None:
    api_key = await house.create_key(await house.sign_up())
    exchange = KeyExchange(house.stub)
    token, lifetime = await exchange(api_key)
    assert house.verifier.verify(token)
    assert lifetime == 180.0
    assert await house.sql("SELECT count(*) FROM api_keys WHERE last_used_at IS NOT NULL") == [(1,)]
    await house.sql("UPDATE api_keys SET revoked_at = now()")
    assert await reason(exchange(api_key)) == "CREDENTIALS_INVALID"


async def test_keys_are_listed_without_their_text_and_revoked(house: House) -> None:
    ada, bob = await house.sign_up(), await house.sign_up("bob@example.org")
    used, unused = await house.create_key(ada), await house.create_key(ada)
    await KeyExchange(house.stub)(used)
    listed = await house.list_keys(ada)
    assert [(key.label, key.HasField("last_used_at")) for key in listed] == [("laptop", False), ("laptop", True)]
    assert used.encode() not in b"".join(key.SerializeToString() for key in listed)
    for tokens, key_id in ((bob, listed[1].key_id), (ada, str(uuid.uuid4()))):
        assert await reason(house.revoke_key(tokens, key_id)) == "API_KEY_NOT_FOUND"
    for _ in range(2):
        await house.revoke_key(ada, listed[1].key_id)
    assert [key.key_id for key in await house.list_keys(ada)] == [listed[0].key_id]
    assert await reason(KeyExchange(house.stub)(used)) == "CREDENTIALS_INVALID"
    assert await KeyExchange(house.stub)(unused)


async def test_a_revoked_key_that_a_gateway_knows_stops_with_its_token(house: House) -> None:
    """After 180 s at the latest, and at the first exchange in the background if it is used before that."""
    now = 0.0
    ada = await house.sign_up()
    api_key = await house.create_key(ada)
    principals = Principals(house.verifier, KeyExchange(house.stub), clock=lambda: now)
    async with principals.running():
        who = await principals.authenticate(f"Bearer {api_key}")
        (listed,) = await house.list_keys(ada)
        await house.revoke_key(ada, listed.key_id)
        now = 119.0
        assert await principals.authenticate(f"Bearer {api_key}") == who
        now = 180.0
        assert await reason(principals.authenticate(f"Bearer {api_key}")) == "CREDENTIALS_INVALID"


async def test_without_postgresql_nothing_is_called_invalid_and_kept_tokens_serve(
    house: House, postgres: Postgres
) -> None:
    new = await house.sign_up()
    kept, other = await house.create_key(new), await house.create_key(new)
    principals = Principals(house.verifier, KeyExchange(house.stub))
    async with principals.running():
        who = await principals.authenticate(f"Bearer {kept}")
        postgres.stop()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: house.sign_up("bob@example.org"),
            house.sign_in,
            lambda: house.sign_in("nobody@example.org"),
            lambda: house.refresh(new.refresh_token),
            lambda: client.unary(
                house.stub.Logout, auth_pb2.LogoutRequest(refresh_token=new.refresh_token), timeout=10
            ),
            lambda: house.create_key(new),
            lambda: principals.authenticate(f"Bearer {other}"),
        ]
        assert [await reason(call()) for call in calls] == ["STORE_UNAVAILABLE"] * len(calls)
        assert await principals.authenticate(f"Bearer {kept}") == who
        assert await principals.authenticate(f"Bearer {new.access_token}") == who
