"""A caller that speaks the Gemini API and the emulator's control plane."""

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

JUNIOR = "gemini-3.5-flash-lite"
SENIOR = "gemini-2.5-pro"
KEY = "key-a1"


def question(text: str, **more: Any) -> dict[str, Any]:
    """A body with one user turn."""
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


@dataclass(slots=True)
class Answer:
    """Status, headers and raw body of one call."""

    status: int
    content_type: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def text(self) -> str:
        """Text of the first candidate."""
        return "".join(part.get("text", "") for part in self.json["candidates"][0]["content"]["parts"])

    @property
    def events(self) -> list[Any]:
        """Events of a stream with alt=sse."""
        lines = self.raw.decode().split("\r\n\r\n")
        assert lines[-1] == ""
        assert all(line.startswith("data: ") for line in lines[:-1])
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]

    @property
    def details(self) -> dict[str, Any]:
        """Details of an error by the last word of their type."""
        return {one["@type"].rpartition(".")[2]: one for one in self.json["error"].get("details", [])}


@dataclass(slots=True)
class Caller:
    """Speaks to one emulator."""

    url: str
    session: aiohttp.ClientSession

    async def post(
        self, path: str, body: Any = None, *, key: str | None = KEY, raw: bytes | None = None, **headers: str
    ) -> Answer:
        if key is not None:
            headers["x-goog-api-key"] = key
        data = raw if raw is not None else json.dumps(body).encode()
        async with self.session.post(self.url + path, data=data, headers=headers) as response:
            return Answer(response.status, response.headers["Content-Type"], await response.read())

    async def get(self, path: str, *, key: str | None = KEY) -> Answer:
        headers = {} if key is None else {"x-goog-api-key": key}
        async with self.session.get(self.url + path, headers=headers) as response:
            return Answer(response.status, response.headers["Content-Type"], await response.read())

    async def ask(self, text: str, *, model: str = JUNIOR, key: str | None = KEY, **more: Any) -> Answer:
        return await self.post(f"/v1beta/models/{model}:generateContent", question(text, **more), key=key)

    async def stream(self, text: str, *, model: str = JUNIOR, key: str | None = KEY, **more: Any) -> Answer:
        path = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
        return await self.post(path, question(text, **more), key=key)

    async def control(self, name: str, body: Any) -> Any:
        answer = await self.post(f"/_emulator/{name}", body, key=None)
        assert answer.status == 200, answer.raw
        return answer.json

    async def script(self, *rules: dict[str, Any]) -> None:
        await self.control("script", {"rules": list(rules)})

    async def fault(self, effect: dict[str, Any], **more: Any) -> None:
        await self.control("faults", {"faults": [{"effect": effect, **more}]})

    async def stats(self, *, arrivals: bool = False) -> Any:
        return (await self.get("/_emulator/stats" + ("?arrivals=1" if arrivals else ""), key=None)).json
