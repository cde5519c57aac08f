"""People and what they prove themselves with: passwords, refresh tokens, API keys.

Refresh tokens rotate (RFC 9700 section 4.14): each can be used once. Two tabs that
refresh at once must not log anyone out, so the token just used gives the same successor
for 10 s more; any older token, or the same one later, revokes the family.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import logs
from services.common.errors import Conflict, Exhausted, InvalidRequest, NotFound, Unauthenticated
from services.session import email_address, refresh_tokens
from services.session.passwords import Verdict
from services.session.tokens import LIFETIME_SECONDS

log = logs.get(__name__)

PASSWORD_CHARS = range(10, 1024 + 1)
MAX_DISPLAY_NAME_CHARS = 200
MAX_LABEL_CHARS = 100
REFRESH_LIFETIME_SECONDS = 30 * 24 * 3600
REFRESH_GRACE_SECONDS = 10
API_KEY_PREFIX = "fk_"


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is: UUIDs as text."""

    tenant_id: str
    person_id: str


@dataclass(frozen=True, slots=True)
class Account:
    """A person with the digest of the password."""

    person: Person
    password_hash: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client gets; `expires_in` is the access token's life in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str
    person: Person


@dataclass(frozen=True, slots=True)
class Rotated:
    """The token was used; the successor is the one that `salt` gives."""

    person: Person
    salt: bytes


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is told about a key; `last_used_at` is when it was last exchanged for a token."""

    key_id: str
    label: str
    created_at: datetime
    last_used_at: datetime | None


class Reused(Exception):
    """The token was used before, and not just now: its family has been revoked."""


class PeopleStore(Protocol):
    """Where people are kept. Every method raises Unavailable (STORE_UNAVAILABLE)."""

    async def create_person(
        self, email: email_address.EmailAddress, password_hash: str, display_name: str
    ) -> Person | None:
        """A tenant with its first person, both or neither; None if the address is taken."""

    async def find_account(self, email_key: str) -> Account | None: ...

    async def renew_password_hash(self, person: Person, old: str, new: str) -> None:
        """Replaces the digest unless it is no longer `old`."""

    async def open_family(self, person: Person, family: uuid.UUID, token_hash: bytes, lifetime: float) -> bool:
        """Starts a family with its first token, for `lifetime` seconds; False if there is no such person."""

    async def rotate(
        self, token: refresh_tokens.RefreshToken, salt: bytes, *, lifetime: float, grace: float
    ) -> Rotated | None:
        """Makes `token.successor(salt)` the family's token for `lifetime` seconds, if `token` is it now.

        If `token` was used for it within the last `grace` seconds, the salt given then.
        None if the token is unknown, expired or revoked. Raises Reused for any other
        token of the family, which is then revoked.
        """

    async def revoke_family(self, family: uuid.UUID) -> None:
        """An unknown family is no error."""

    async def create_api_key(self, person: Person, key_hash: bytes, label: str, *, limit: int) -> str | None:
        """The key's UUID; None if the person has `limit` unrevoked keys. Raises LookupError: no such person."""

    async def api_keys(self, person: Person) -> Sequence[ApiKey]:
        """The person's unrevoked keys, newest first."""

    async def revoke_api_key(self, person: Person, key_id: str) -> bool:
        """Also a revoked one; False if the person has no such key."""

    async def use_api_key(self, key_hash: bytes) -> Person | None:
        """Whose key it is; notes the time of use."""


class PasswordHashing(Protocol):
    """See `services.session.passwords`."""

    async def digest(self, password: str) -> str: ...

    async def check(self, stored: str | None, password: str) -> Verdict: ...


class TokenMinter(Protocol):
    """See `services.session.tokens`."""

    def mint(self, *, tenant_id: str, person_id: str) -> str: ...


class People:
    """Sign-up, sign-in, tokens and API keys. Every method but raises what the store raises."""

    def __init__(
        self, store: PeopleStore, passwords: PasswordHashing, minter: TokenMinter, *, api_keys_per_person: int
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._minter = minter
        self._api_keys_per_person = api_keys_per_person

    async def sign_up(self, email: str, password: str, display_name: str) -> Tokens:
        """Makes a tenant with its first person and signs that person in.

        Raises InvalidRequest, Conflict (EMAIL_TAKEN), Exhausted (OVERLOADED).
        """
        address = email_address.parse(email)
        if address is None:
            raise _invalid("email", "The e-mail address is not one; it looks like name@example.org.")
        if len(password) not in PASSWORD_CHARS:
            raise _invalid("password", "The password must have 10 to 1,024 characters.")
        name = _line("display_name", display_name, MAX_DISPLAY_NAME_CHARS)
        password_hash = await self._passwords.digest(password)
        person = await self._store.create_person(address, password_hash, name)
        if person is None:
            raise Conflict(
                "There is already somebody with this e-mail address; sign in instead.",
                ErrorReason.ERROR_REASON_EMAIL_TAKEN,
            )
        tokens = await self._sign_in(person)
        assert tokens is not None
        return tokens

    async def issue_token(self, email: str, password: str) -> Tokens:
        """Signs a person in. Takes as long whether or not there is such a person.

        Raises Unauthenticated (SIGN_IN_FAILED), Exhausted (OVERLOADED).
        """
        if len(password) not in PASSWORD_CHARS:  # nobody has such a password, whoever it is
            raise _sign_in_failed()
        address = email_address.parse(email)
        account = await self._store.find_account(address.key) if address else None
        verdict = await self._passwords.check(account.password_hash if account else None, password)
        if account is None or not verdict.right:
            raise _sign_in_failed()
        if verdict.renewed is not None:
            await self._store.renew_password_hash(account.person, account.password_hash, verdict.renewed)
        tokens = await self._sign_in(account.person)
        if tokens is None:
            raise _sign_in_failed()
        return tokens

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for a refresh token. Raises Unauthenticated (CREDENTIALS_INVALID, REFRESH_TOKEN_REUSED)."""
        token = refresh_tokens.parse(refresh_token)
        if token is None:
            raise _unknown_refresh_token()
        try:
            rotated = await self._store.rotate(
                token, refresh_tokens.salt(), lifetime=REFRESH_LIFETIME_SECONDS, grace=REFRESH_GRACE_SECONDS
            )
        except Reused:
            log.warning("refresh token reused; its family was revoked", family=str(token.family))
            raise Unauthenticated(
                "This refresh token was used before, so all of its sign-in was revoked; sign in again.",
                ErrorReason.ERROR_REASON_REFRESH_TOKEN_REUSED,
            ) from None
        if rotated is None:
            raise _unknown_refresh_token()
        return self._tokens(rotated.person, token.successor(rotated.salt).text)

    async def logout(self, refresh_token: str) -> None:
        """Revokes the token's family; a token that is unknown is no error."""
        token = refresh_tokens.parse(refresh_token)
        if token is not None:
            await self._store.revoke_family(token.family)

    async def create_api_key(self, person: Person, label: str) -> tuple[str, str]:
        """A new key's UUID and text, which is stored nowhere.

        Raises InvalidRequest, Exhausted (LIMIT_REACHED), Unauthenticated (the person is gone).
        """
        _person(person)
        text = _line("label", label, MAX_LABEL_CHARS)
        api_key = API_KEY_PREFIX + secrets.token_urlsafe(32)
        try:
            key_id = await self._store.create_api_key(person, _digest(api_key), text, limit=self._api_keys_per_person)
        except LookupError:
            raise Unauthenticated("The person of this token no longer exists.") from None
        if key_id is None:
            raise Exhausted(
                f"You have {self._api_keys_per_person} API keys, the most one person can have; revoke one first.",
                ErrorReason.ERROR_REASON_LIMIT_REACHED,
                metadata={"limit": str(self._api_keys_per_person)},
            )
        return key_id, api_key

    async def api_keys(self, person: Person) -> Sequence[ApiKey]:
        """The person's keys that work, newest first. Raises InvalidRequest."""
        _person(person)
        return await self._store.api_keys(person)

    async def revoke_api_key(self, person: Person, key_id: str) -> None:
        """No token is given for the key any more. Raises InvalidRequest, NotFound (API_KEY_NOT_FOUND)."""
        _person(person)
        _uuid("key_id", key_id)
        if not await self._store.revoke_api_key(person, key_id):
            raise NotFound("You have no such API key.", ErrorReason.ERROR_REASON_API_KEY_NOT_FOUND)

    async def exchange_api_key(self, api_key: str) -> Tokens:
        """An access token, without a refresh token. Raises Unauthenticated (CREDENTIALS_INVALID)."""
        person = await self._store.use_api_key(_digest(api_key)) if api_key.startswith(API_KEY_PREFIX) else None
        if person is None:
            raise Unauthenticated("The API key is not valid; check it or make a new one.")
        return self._tokens(person, "")

    async def _sign_in(self, person: Person) -> Tokens | None:
        token = refresh_tokens.first()
        opened = await self._store.open_family(person, token.family, token.digest, REFRESH_LIFETIME_SECONDS)
        return self._tokens(person, token.text) if opened else None

    def _tokens(self, person: Person, refresh_token: str) -> Tokens:
        access_token = self._minter.mint(tenant_id=person.tenant_id, person_id=person.person_id)
        return Tokens(access_token, LIFETIME_SECONDS, refresh_token, person)


def _digest(api_key: str) -> bytes:
    """SHA-256, which is enough for 256 random bits."""
    return hashlib.sha256(api_key.encode()).digest()


def _line(field: str, text: str, most: int) -> str:
    """A short text for people, without blanks around it and without control characters."""
    line = unicodedata.normalize("NFC", text.strip())
    if len(line) > most:
        raise _invalid(field, f"The {field.replace('_', ' ')} must have at most {most} characters.")
    if any(unicodedata.category(char) == "Cc" for char in line):
        raise _invalid(field, f"The {field.replace('_', ' ')} must be one line without control characters.")
    return line


def _person(person: Person) -> None:
    _uuid("principal.tenant_id", person.tenant_id)
    _uuid("principal.person_id", person.person_id)


def _uuid(field: str, text: str) -> None:
    try:
        uuid.UUID(text)
    except ValueError:
        raise _invalid(field, f"{field} must be a UUID.") from None


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, metadata={"field": field})


def _sign_in_failed() -> Unauthenticated:
    return Unauthenticated(
        "E-mail address and password do not belong together, or there is no such person.",
        ErrorReason.ERROR_REASON_SIGN_IN_FAILED,
    )


def _unknown_refresh_token() -> Unauthenticated:
    return Unauthenticated("The refresh token is not valid, has expired or was revoked; sign in again.")
