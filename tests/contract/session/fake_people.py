"""A store of people in memory: it keeps every promise of `PeopleStore` but durability."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.session.email_address import EmailAddress
from services.session.people import Account, ApiKey, Person, Reused, Rotated
from services.session.refresh_tokens import RefreshToken


@dataclass
class _Family:
    person: Person
    token_hash: bytes
    expires: float
    parent_hash: bytes = b""
    parent_salt: bytes = b""
    rotated: float = 0.0
    revoked: bool = False


@dataclass
class _Key:
    owner: Person
    listed: ApiKey
    revoked: bool = False


class FakePeople:
    """See `PeopleStore`. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.accounts: dict[str, Account] = {}
        self.families: dict[uuid.UUID, _Family] = {}
        self._keys: dict[bytes, _Key] = {}

    async def create_person(self, email: EmailAddress, password_hash: str, display_name: str) -> Person | None:
        if email.key in self.accounts:
            return None
        person = Person(str(uuid.uuid4()), str(uuid.uuid4()))
        self.accounts[email.key] = Account(person, password_hash)
        return person

    async def find_account(self, email_key: str) -> Account | None:
        return self.accounts.get(email_key)

    async def renew_password_hash(self, person: Person, old: str, new: str) -> None:
        for key, account in self.accounts.items():
            if account.person == person and account.password_hash == old:
                self.accounts[key] = dataclasses.replace(account, password_hash=new)

    async def open_family(self, person: Person, family: uuid.UUID, token_hash: bytes, lifetime: float) -> bool:
        if not self._exists(person):
            return False
        self.families[family] = _Family(person, token_hash, self._clock() + lifetime)
        return True

    async def rotate(self, token: RefreshToken, salt: bytes, *, lifetime: float, grace: float) -> Rotated | None:
        family = self.families.get(token.family)
        now = self._clock()
        if family is None or family.revoked or family.expires <= now:
            return None
        if family.token_hash == token.digest:
            family.token_hash, family.parent_hash, family.parent_salt = (
                token.successor(salt).digest,
                token.digest,
                salt,
            )
            family.rotated, family.expires = now, now + lifetime
            return Rotated(family.person, salt)
        if family.parent_hash == token.digest and family.rotated > now - grace:
            return Rotated(family.person, family.parent_salt)
        family.revoked = True
        raise Reused

    async def revoke_family(self, family: uuid.UUID) -> None:
        if family in self.families:
            self.families[family].revoked = True

    async def create_api_key(self, person: Person, key_hash: bytes, label: str, *, limit: int) -> str | None:
        if not self._exists(person):
            raise LookupError(person.person_id)
        if len(await self.api_keys(person)) >= limit:
            return None
        self._keys[key_hash] = _Key(person, ApiKey(str(uuid.uuid4()), label, datetime.now(UTC), None))
        return self._keys[key_hash].listed.key_id

    async def api_keys(self, person: Person) -> Sequence[ApiKey]:
        return [key.listed for key in reversed(self._keys.values()) if key.owner == person and not key.revoked]

    async def revoke_api_key(self, person: Person, key_id: str) -> bool:
        mine = [key for key in self._keys.values() if key.owner == person and key.listed.key_id == key_id]
        for key in mine:
            key.revoked = True
        return bool(mine)

    async def use_api_key(self, key_hash: bytes) -> Person | None:
        key = self._keys.get(key_hash)
        if key is None or key.revoked:
            return None
        key.listed = dataclasses.replace(key.listed, last_used_at=datetime.now(UTC))
        return key.owner

    def _exists(self, person: Person) -> bool:
        return any(account.person == person for account in self.accounts.values())
