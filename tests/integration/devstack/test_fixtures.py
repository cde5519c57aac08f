"""What the fixtures promise to every other test."""

import asyncpg
import httpx2
import pytest

from tests.harness.emulator import Emulator


@pytest.mark.parametrize("attempt", [1, 2])
async def test_every_test_has_a_database_of_its_own_with_the_schema(database_url: str, attempt: int) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM tenants") == 0
        await connection.execute("INSERT INTO tenants (name) VALUES ('somebody')")
    finally:
        await connection.close()


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_finds_the_emulator_as_after_its_start(emulator: Emulator, attempt: int) -> None:
    url = f"{emulator.url}/v1beta/models/gemini-2.5-pro:generateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}

    def ask() -> str:
        reply = httpx2.post(url, json=body, headers={"x-goog-api-key": emulator.key}, trust_env=False)
        return str(reply.json()["candidates"][0]["content"]["parts"][0]["text"])

    assert "Hello" in ask()
    emulator.script({"text": "Scripted."})
    assert ask() == "Scripted."
    assert emulator.stats()["admitted"] == 2
