"""The demo person and API key, made through the public API like anybody's, and kept in `dev.env`."""

from __future__ import annotations

import http.client
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devstack.home import write_private
from devstack.process import StartError

_EMAIL = "demo@example.com"
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Demo:
    """What a person needs to try the system."""

    url: str
    api_key: str
    email: str
    password: str

    @property
    def curl(self) -> str:
        """A line that works as pasted."""
        return (
            f'curl -s {self.url}/v1/ask -H "Authorization: Bearer {self.api_key}"'
            ' -H "Content-Type: application/json"'
            """ -d '{"question": "What is the capital of Brazil?"}'"""
        )


def prepare(url: str, dev_env: Path) -> Demo:
    """The demo account of this data: the saved one while it works, else a new one; saved to `dev_env`.

    Raises StartError.
    """
    saved = _read(dev_env)
    api_key, email, password = (saved.get(name, "") for name in ("FOCUS_API_KEY", "FOCUS_EMAIL", "FOCUS_PASSWORD"))
    if not (email and password):
        email, password, api_key = _EMAIL, secrets.token_urlsafe(12), ""
    if not (api_key and _works(url, api_key)):
        email, password, api_key = _account(url, email, password)
    demo = Demo(url, api_key, email, password)
    lines = {"FOCUS_URL": url, "FOCUS_API_KEY": api_key, "FOCUS_EMAIL": email, "FOCUS_PASSWORD": password}
    write_private(dev_env, "".join(f"{name}={text}\n" for name, text in lines.items()))
    return demo


def _account(url: str, email: str, password: str) -> tuple[str, str, str]:
    """(e-mail, password, API key) of an account that can be signed in to."""
    credentials = {"email": email, "password": password}
    status, reply = _call(url, "POST", "/v1/auth/signup", {**credentials, "display_name": "Demo"})
    if status == 409:
        status, reply = _call(url, "POST", "/v1/auth/token", credentials)
        if status == 401:
            # The account is there and dev.env, with its password, was lost: a new person.
            email = f"demo-{secrets.token_hex(4)}@example.com"
            credentials["email"] = email
            status, reply = _call(url, "POST", "/v1/auth/signup", {**credentials, "display_name": "Demo"})
    if status >= 300:
        raise StartError(_refused("the demo account", status, reply))
    status, key = _call(url, "POST", "/v1/api-keys", {"label": "demo"}, bearer=str(reply["access_token"]))
    if status >= 300:
        raise StartError(_refused("the demo API key", status, key))
    return email, password, str(key["api_key"])


def _works(url: str, api_key: str) -> bool:
    status, _ = _call(url, "GET", "/v1/conversations", None, bearer=api_key)
    return status == 200


def _refused(what: str, status: int, reply: dict[str, Any]) -> str:
    return (
        f"The gateway did not make {what} ({status}: {reply.get('detail', reply)}); see the log folder, or use --reset"
    )


def _call(
    url: str, method: str, path: str, body: dict[str, Any] | None, *, bearer: str = ""
) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_SECONDS)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        reply = json.loads(text) if text else {}
        return response.status, reply if isinstance(reply, dict) else {}
    except (OSError, http.client.HTTPException, ValueError) as err:
        raise StartError(f"The gateway at {url} does not answer as it should: {err}; see the log folder") from err
    finally:
        connection.close()


def _read(dev_env: Path) -> dict[str, str]:
    try:
        lines = dev_env.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)
