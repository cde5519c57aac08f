"""Gemini over REST (v1beta) with aiohttp.

By hand rather than through google-genai, whose typed contents cost seven times the CPU of a call
(`bench/llm` measures it). The key travels in the header `x-goog-api-key` only: in a URL it would
end up in logs and exception texts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp
from yarl import URL

from focus.chat.v1.chat_pb2 import FinishReason
from services.llm.pressure import Pressure
from services.llm.prompt import Prompt
from services.llm.providers import gemini_body, gemini_reply
from services.llm.providers.port import Chunk, Endpoint, Overloaded, ProviderError, StreamBroken, Timeouts

_JSON = {"content-type": "application/json"}
_LARGEST_ERROR = 64 << 10


class Gemini:
    """The provider port over one pool of connections.

    Projects for which `is_vertex` is true are called at Vertex AI, whose address may hold `{location}`.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        vertex_base_url: str,
        is_vertex: Callable[[str], bool],
        pressure: Pressure,
    ) -> None:
        self._session = session
        self._base = base_url.rstrip("/")
        self._vertex_base = vertex_base_url
        self._is_vertex = is_vertex
        self._pressure = pressure
        self._urls: dict[tuple[Endpoint, str], URL] = {}

    async def warm(self, connections: int) -> None:
        """Opens connections ahead of the first questions; failing to is no fault."""

        async def one() -> None:
            try:
                async with self._session.get(URL(self._base), timeout=aiohttp.ClientTimeout(total=3)) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError):
                return

        await asyncio.gather(*(one() for _ in range(connections)))

    async def stream(
        self, endpoint: Endpoint, headers: Mapping[str, str], prompt: Prompt, timeouts: Timeouts
    ) -> AsyncGenerator[Chunk, None]:
        ends = asyncio.get_running_loop().time() + timeouts.total
        response = await self._open(endpoint, "streamGenerateContent?alt=sse", headers, prompt, timeouts)
        events = gemini_reply.EventReader()
        last: Chunk | None = None
        patience = timeouts.first_token
        try:
            while last is None:
                if patience is not timeouts.first_token and self._pressure.hold:
                    await asyncio.sleep(self._pressure.hold)
                raw = await _read(response, patience, ends)
                gathered: Chunk | None = None
                try:
                    for data in events.feed(raw) if raw else events.finish():
                        chunk = gemini_reply.chunk(gemini_reply.decode(data))
                        gathered = chunk if gathered is None else _joined(gathered, chunk)
                except ProviderError:
                    # What came before it is the caller's all the same.
                    if gathered is not None and gathered.finish_reason is None:
                        yield gathered
                    raise
                if gathered is not None and gathered.finish_reason is not None:
                    last = gathered
                elif gathered is not None:
                    yield gathered
                if not raw and last is None:
                    raise StreamBroken("the provider's answer ended early")
                patience = timeouts.between_tokens
            # What follows is read before the last chunk goes out, so that the connection can be used again.
            for data in await _drain(response, events):
                last = _joined(last, gemini_reply.chunk(gemini_reply.decode(data)))
            yield last
        finally:
            # A complete answer gives its connection back; anything else closes it, which stops the provider.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def complete(
        self, endpoint: Endpoint, headers: Mapping[str, str], prompt: Prompt, timeouts: Timeouts
    ) -> Chunk:
        ends = asyncio.get_running_loop().time() + timeouts.total
        # Nothing comes before the whole answer is there, so it may take as long as the call.
        whole = Timeouts(timeouts.connect, timeouts.total, timeouts.between_tokens, timeouts.total)
        response = await self._open(endpoint, "generateContent", headers, prompt, whole)
        try:
            raw = await _read_whole(response, timeouts.between_tokens, ends)
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()
        chunk = gemini_reply.chunk(gemini_reply.decode(raw))
        if chunk.finish_reason is None:
            chunk.finish_reason = FinishReason.FINISH_REASON_OTHER
        return chunk

    async def _open(
        self, endpoint: Endpoint, method: str, headers: Mapping[str, str], prompt: Prompt, timeouts: Timeouts
    ) -> aiohttp.ClientResponse:
        """The response, its headers read and its status 200."""
        try:
            async with asyncio.timeout(min(timeouts.connect + timeouts.first_token, timeouts.total)):
                response = await self._session.post(
                    self._url(endpoint, method),
                    data=gemini_body.render(prompt),
                    headers={**_JSON, **headers},
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=timeouts.connect),
                )
        except aiohttp.ClientConnectorError:
            raise Overloaded("the provider cannot be reached", sent=False) from None
        except aiohttp.ConnectionTimeoutError:
            raise Overloaded("no connection to the provider in time", sent=False, late=True) from None
        except TimeoutError:
            raise Overloaded("the provider did not answer in time") from None
        except aiohttp.ClientError:
            raise Overloaded("the connection to the provider broke") from None
        if response.status == 200:
            return response
        try:
            async with asyncio.timeout(5.0):
                raw = await response.content.read(_LARGEST_ERROR)
            tree = gemini_reply.decode(raw)
        except (TimeoutError, aiohttp.ClientError, StreamBroken):
            tree = {}
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()
        # A redirect or a 2xx without content is no answer either.
        raise gemini_reply.error(response.status if response.status >= 400 else 502, tree)

    def _url(self, endpoint: Endpoint, method: str) -> URL:
        url = self._urls.get((endpoint, method))
        if url is None:
            model = quote(endpoint.model, safe="")
            if self._is_vertex(endpoint.project):
                project, location = quote(endpoint.project, safe=":"), quote(endpoint.location, safe="")
                base = self._vertex_base.format(location=location)
                if location == "global":
                    # The global endpoint has no location in its name.
                    base = base.replace("global-", "", 1)
                path = f"/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:{method}"
            else:
                base, path = self._base, f"/v1beta/models/{model}:{method}"
            url = self._urls[endpoint, method] = URL(base.rstrip("/") + path, encoded=True)
        return url


def _joined(first: Chunk, second: Chunk) -> Chunk:
    """Two chunks that came in this order, as one."""
    return Chunk(
        first.text + second.text,
        [*first.tool_calls, *second.tool_calls] if first.tool_calls or second.tool_calls else (),
        first.finish_reason if first.finish_reason is not None else second.finish_reason,
        second.usage or first.usage,
    )


async def _drain(response: aiohttp.ClientResponse, events: gemini_reply.EventReader) -> list[bytes]:
    """Reads to the end, if that is near; the events that still came."""
    found: list[bytes] = []
    try:
        async with asyncio.timeout(0.25):
            while not response.content.at_eof():
                found += events.feed(await response.content.readany())
    except (TimeoutError, aiohttp.ClientError, StreamBroken):
        return []
    return found


async def _read(response: aiohttp.ClientResponse, patience: float, ends: float) -> bytes:
    """The next bytes; empty at the end. Raises StreamBroken."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(min(loop.time() + patience, ends)):
            return await response.content.readany()
    except TimeoutError:
        raise StreamBroken("the provider fell silent in the middle of an answer") from None
    except aiohttp.ClientError:
        raise StreamBroken("the connection to the provider broke in the middle of an answer") from None


async def _read_whole(response: aiohttp.ClientResponse, patience: float, ends: float) -> bytes:
    pieces = []
    while raw := await _read(response, patience, ends):
        pieces.append(raw)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@asynccontextmanager
async def opened(
    base_url: str,
    vertex_base_url: str,
    is_vertex: Callable[[str], bool],
    pressure: Pressure,
    *,
    connections: int,
) -> AsyncIterator[Gemini]:
    """The provider with a pool of at most `connections`; ones that were idle for a minute are closed."""
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=60.0, ttl_dns_cache=30)
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=True,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    async with session:
        yield Gemini(session, base_url, vertex_base_url, is_vertex, pressure)
