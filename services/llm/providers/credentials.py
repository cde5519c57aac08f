"""Makes a key the header of a call: API keys as they stand, service accounts (Vertex AI) as an access token.

Tokens are fetched by google-auth, which google-genai brings along, in a thread; each is kept until
shortly before it expires, and everybody who needs it meanwhile waits for one fetch.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

from google.auth import exceptions
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from services.llm.keys import Key
from services.llm.providers.port import KeyRefused, Overloaded

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# Seconds before its expiry that a token is not used any more.
_EARLY = 120.0

Fetch = Callable[[str], tuple[str, float]]


def fetch(secret: str) -> tuple[str, float]:
    """An access token for a service account's JSON, and when it expires (epoch seconds). Blocks.

    Raises KeyRefused where the account is not accepted, Overloaded where it could not be asked.
    """
    try:
        # google-auth is only half typed.
        make: Any = service_account.Credentials.from_service_account_info
        account = make(json.loads(secret), scopes=[_SCOPE])
        account.refresh(Request())
    except exceptions.TransportError:
        raise Overloaded("the token endpoint cannot be reached", sent=False) from None
    except exceptions.RefreshError as err:
        if err.retryable:
            raise Overloaded("the token endpoint failed", sent=False) from None
        raise KeyRefused from None
    except (ValueError, exceptions.GoogleAuthError):
        raise KeyRefused from None
    # google-auth's expiry is UTC without saying so.
    expires = account.expiry.replace(tzinfo=UTC).timestamp() if account.expiry is not None else time.time() + 3000
    return str(account.token), expires


class Credentials:
    """The headers of keys."""

    def __init__(self, fetch: Fetch = fetch, clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._tokens: dict[str, tuple[Mapping[str, str], float]] = {}
        self._fetching: dict[str, asyncio.Task[tuple[str, float]]] = {}

    async def headers(self, key: Key) -> Mapping[str, str]:
        """The header that authorises a call. Raises KeyRefused or Overloaded."""
        if not key.is_service_account:
            return key.headers
        known = self._tokens.get(key.fingerprint)
        if known is not None and self._clock() < known[1] - _EARLY:
            return known[0]
        task = self._fetching.get(key.fingerprint)
        if task is None:
            task = self._fetching[key.fingerprint] = asyncio.create_task(asyncio.to_thread(self._fetch, key.secret))
            task.add_done_callback(lambda _: self._fetching.pop(key.fingerprint, None))
        token, expires = await asyncio.shield(task)
        headers = {"authorization": f"Bearer {token}"}
        self._tokens[key.fingerprint] = (headers, expires)
        return headers
