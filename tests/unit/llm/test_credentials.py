"""Service accounts of Vertex AI, against a token endpoint on this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services.llm.keys import Key
from services.llm.pressure import Pressure
from services.llm.prompt import Message, Prompt, Text
from services.llm.providers.credentials import Credentials
from services.llm.providers.gemini import Gemini
from services.llm.providers.port import Endpoint, KeyRefused, Timeouts


class Google:
    """A token endpoint and a Vertex AI, as far as a call needs them."""

    def __init__(self) -> None:
        self.tokens = 0
        self.refuse = False
        self.calls: list[tuple[str, str]] = []
        self.url = ""

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        if self.refuse:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.tokens += 1
        return web.json_response({"access_token": f"token-{self.tokens}", "expires_in": 3600, "token_type": "Bearer"})

    async def generate(self, request: web.Request) -> web.Response:
        self.calls.append((request.path, request.headers["authorization"]))
        part = {"content": {"parts": [{"text": "Brasilia."}]}, "finishReason": "STOP"}
        return web.json_response({"candidates": [part], "usageMetadata": {"promptTokenCount": 5}})

    def key(self) -> Key:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "client_email": "focus@project.example",
            "private_key": private.decode(),
            "token_uri": f"{self.url}/token",
        }
        return Key("vertex-a", "a", json.dumps(account))


@pytest_asyncio.fixture
async def google() -> AsyncIterator[Google]:
    found = Google()
    app = web.Application()
    app.router.add_post("/token", found.token)
    app.router.add_post("/v1/projects/{rest:.*}", found.generate)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_one_token_serves_many_calls_until_shortly_before_its_end(google: Google) -> None:
    now = [0.0]
    credentials = Credentials(clock=lambda: now[0])
    key = google.key()
    found = await asyncio.gather(*(credentials.headers(key) for _ in range(20)))
    assert {headers["authorization"] for headers in found} == {"Bearer token-1"}
    now[0] = 1e12
    assert (await credentials.headers(key))["authorization"] == "Bearer token-2"
    assert google.tokens == 2


async def test_a_refused_account_is_a_refused_key(google: Google) -> None:
    google.refuse = True
    with pytest.raises(KeyRefused):
        await Credentials().headers(google.key())
    with pytest.raises(KeyRefused):
        await Credentials().headers(Key("p", "a", '{"type": "service_account"}'))


async def test_a_call_goes_to_the_project_and_location_with_the_token(google: Google) -> None:
    async with aiohttp.ClientSession() as session:
        provider = Gemini(session, "http://127.0.0.1:9", google.url, lambda project: True, Pressure())
        headers = await Credentials().headers(google.key())
        endpoint = Endpoint("vertex-a", "gemini-3.1-pro-preview", "europe-west4")
        chunk = await provider.complete(endpoint, headers, Prompt([Message("user", [Text("Which?")])]), Timeouts())
    assert chunk.text == "Brasilia."
    path = "/v1/projects/vertex-a/locations/europe-west4/publishers/google/models/gemini-3.1-pro-preview"
    assert google.calls == [(f"{path}:generateContent", "Bearer token-1")]
