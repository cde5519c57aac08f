"""The web page: built files, read once, served with a strict Content-Security-Policy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

# Vite puts a hash of the content into a name: `index-B2xG93kq.js`.
_HASHED = re.compile(r"-[A-Za-z0-9_-]{8}\.[a-z0-9]+$")

# Nothing but our own files, no frame around us, no address in a foreign log.
_SECURITY = [
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
            b"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]

# Told here and not looked up: the tables of machines differ.
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file with the head of its answer."""

    body: bytes
    etag: bytes
    headers: list[tuple[bytes, bytes]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = [value for name, value in scope["headers"] if name == b"if-none-match"]
        known = any(
            tag.strip().removeprefix(b"W/") in (self.etag, b"*") for value in asked for tag in value.split(b",")
        )
        body = b"" if known else self.body
        length = [] if known else [(b"content-length", str(len(self.body)).encode())]
        await send(
            {"type": "http.response.start", "status": 304 if known else 200, "headers": [*self.headers, *length]}
        )
        await send({"type": "http.response.body", "body": body})


def asset_routes(directory: Path) -> Sequence[Route]:
    """A route for every file below `directory`, and `/` for its index.html; none if there is no such directory."""
    routes = []
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory).as_posix()
        if not file.is_file() or any(part.startswith((".", "_")) for part in name.split("/")):
            continue
        asset = _read(file)
        routes.append(Route(f"/{name}", _endpoint(asset), methods=["GET"], include_in_schema=False))
        if name == "index.html":
            routes.append(Route("/", _endpoint(asset), methods=["GET"], include_in_schema=False))
    return routes


def _endpoint(asset: Asset) -> Callable[[Request], Awaitable[Asset]]:
    async def endpoint(_request: Request) -> Asset:
        return asset

    return endpoint


def _read(file: Path) -> Asset:
    body = file.read_bytes()
    etag = b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'
    media_type = _TYPES.get(file.suffix, "application/octet-stream")
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    caching = b"public, max-age=31536000, immutable" if _HASHED.search(file.name) else b"no-cache"
    headers = [(b"content-type", media_type.encode()), (b"etag", etag), (b"cache-control", caching), *_SECURITY]
    return Asset(body, etag, headers)
