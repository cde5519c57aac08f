"""Wires people, passwords and tokens to their servicer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.session import passwords, signing_keys
from services.session.auth_servicer import AuthServicer
from services.session.people import People, PeopleStore
from services.session.settings import SessionSettings
from services.session.tokens import AccessTokens


@asynccontextmanager
async def opened(settings: SessionSettings, store: PeopleStore) -> AsyncIterator[AuthServicer]:
    """The servicer of AuthService. Ends the process with one sentence if there is no signing key."""
    cost = passwords.Cost(settings.password_memory_kib, settings.password_passes, settings.password_lanes)
    async with (
        signing_keys.watched(settings.signing_keys_dir) as keys,
        passwords.pooled(cost, threads=settings.password_threads, waiting=settings.max_sign_ins_waiting) as hashing,
    ):
        minter = AccessTokens(keys, settings.issuer, settings.audience)
        yield AuthServicer(People(store, hashing, minter, api_keys_per_person=settings.max_api_keys))
