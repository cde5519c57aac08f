"""The whole system for end-to-end tests: our own, or a deployed one named by --base-url.

base_url      of either
stack         our own, started once per test process; a test that asks for it is
              skipped with --base-url, since nobody kills a deployed system's parts
own           as `stack`, with the emulator as after its start
visitor       an HTTP client without credentials
person        somebody newly signed up, with a client that carries the access token
another       somebody else, of another tenant
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from devstack.stack import Plan, Stack
from tests.harness.emulator import SETTINGS, Emulator

_SECONDS = 30.0
# A look-up gives up after 20 ms and takes the answer for a miss; a machine that runs tests side by
# side may need longer, and these tests are about what is answered, not how soon.
PATIENT = {**SETTINGS, "FOCUS_CACHE_VALKEY_TIMEOUT_SECONDS": "0.4"}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody signed in. `client` carries the access token, which lives 180 s."""

    email: str
    password: str
    tokens: dict[str, Any]
    client: httpx2.Client


@pytest.fixture(scope="session")
def deployed_url(request: pytest.FixtureRequest) -> str | None:
    """The value of --base-url."""
    value: str | None = request.config.getoption("--base-url")
    return value.rstrip("/") if value else None


@pytest.fixture(scope="session")
def stack(deployed_url: str | None, tmp_path_factory: pytest.TempPathFactory, scratch: Path) -> Iterator[Stack]:
    """All services with a scripted provider. A test that stops something starts it again."""
    if deployed_url:
        pytest.skip("this test stops and steers parts of its own system")
    # Durable: tests kill PostgreSQL and expect what was acknowledged to be there.
    with Stack(Plan(scratch / "stack", backend="scripted", settings=PATIENT)) as running:
        yield running


@pytest.fixture(scope="session")
def _stack_emulator(stack: Stack) -> Iterator[Emulator]:
    assert stack.emulator is not None
    emulator = Emulator(stack.emulator)
    yield emulator
    emulator.close()


@pytest.fixture
def own(stack: Stack, _stack_emulator: Emulator) -> Iterator[Emulator]:
    """The emulator behind our own system; it is as after its start before and after the test."""
    _stack_emulator.reset()
    yield _stack_emulator
    _stack_emulator.reset()


@pytest.fixture(scope="session")
def base_url(request: pytest.FixtureRequest, deployed_url: str | None) -> str:
    """Where the system under test answers."""
    if deployed_url:
        return deployed_url
    running: Stack = request.getfixturevalue("stack")
    return running.base_url


@pytest.fixture
def visitor(base_url: str) -> Iterator[httpx2.Client]:
    """A client without credentials."""
    with _client(base_url) as client:
        yield client


@pytest.fixture
def person(base_url: str) -> Iterator[Person]:
    """Somebody who has just signed up."""
    with ExitStack() as closing:
        yield sign_up(base_url, closing)


@pytest.fixture
def another(base_url: str) -> Iterator[Person]:
    """Somebody of another tenant."""
    with ExitStack() as closing:
        yield sign_up(base_url, closing)


@pytest.fixture
def api_key(request: pytest.FixtureRequest) -> str:
    """An API key: the one given for a deployed system, or a new person's."""
    given: str | None = request.config.getoption("--api-key") or os.environ.get("FOCUS_API_KEY")
    if given and request.getfixturevalue("deployed_url"):
        return given
    somebody: Person = request.getfixturevalue("person")
    reply = somebody.client.post("/v1/api-keys", json={"label": "test"})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["api_key"])


def sign_up(base_url: str, closing: ExitStack) -> Person:
    """A new person; their client is closed by `closing`."""
    client = closing.enter_context(_client(base_url))
    email, password = f"test-{secrets.token_hex(8)}@example.com", secrets.token_urlsafe(16)
    reply = client.post("/v1/auth/signup", json={"email": email, "password": password, "display_name": "Test"})
    assert reply.status_code == 201, reply.text
    tokens = reply.json()
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    return Person(email, password, tokens, client)


def _client(base_url: str) -> httpx2.Client:
    # The environment's proxies are not for a system on this machine.
    return httpx2.Client(base_url=base_url, timeout=_SECONDS, trust_env=False)
