"""A browser for tests of the page: Chromium behind chromedriver, over the WebDriver protocol.

Only what the tests need of https://www.w3.org/TR/webdriver2/ . The browser resolves no
name but that of the system under test, so that the page cannot reach anything else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_START_SECONDS = 30.0
_WAIT_SECONDS = 30.0


class Browser:
    """One window. Elements are named by CSS selectors; waiting is up to 30 s."""

    def __init__(self, driver: httpx2.Client, session: str) -> None:
        self._driver = driver
        self._session = session

    def open(self, url: str) -> None:
        """Loads the address and waits until it is loaded."""
        self._call("POST", "/url", {"url": url})

    def reload(self) -> None:
        """Loads the page anew."""
        self._call("POST", "/refresh", {})

    def type(self, selector: str, text: str) -> None:
        """Types into the element as a person does; "\\ue007" is Enter."""
        self._call("POST", f"/element/{self._element(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Clicks the middle of the element."""
        self._call("POST", f"/element/{self._element(selector)}/click", {})

    def texts(self, selector: str) -> list[str]:
        """What a reader sees of each element that fits, now."""
        return list(self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector))

    def wait(self, condition: str, *arguments: object) -> Any:
        """The first true value of a JavaScript expression; fails with what the page shows."""
        end = time.monotonic() + _WAIT_SECONDS
        while not (value := self.run(f"return {condition}", *arguments)):
            shown = self.run("return document.body.innerText") if time.monotonic() > end else None
            assert shown is None, f"{condition} was not seen within {_WAIT_SECONDS} s; the page shows:\n{shown}"
            time.sleep(0.05)
        return value

    def run(self, script: str, *arguments: object) -> Any:
        """What a JavaScript function body returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def complaints(self) -> list[str]:
        """Errors on the console since the last call: of scripts, of loading, of the page's security policy."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def _element(self, selector: str) -> str:
        self.wait("document.querySelector(arguments[0])", selector)
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _call(self, method: str, path: str, body: dict[str, Any]) -> Any:
        return _value(self._driver.request(method, f"/session/{self._session}{path}", json=body))


def missing() -> str | None:
    """Why there is no browser on this machine; None when there is one."""
    if shutil.which("chromedriver") is None:
        return "chromedriver is not installed (Debian: apt-get install chromium chromium-driver)"
    if _binary() is None:
        return f"no browser is installed: looked for {', '.join(_BROWSERS)}"
    return None


@contextmanager
def browser(profile: Path, url: str) -> Iterator[Browser]:
    """A browser with an empty profile in `profile` that reaches the host of `url` only."""
    log = profile.with_suffix(".log")
    with log.open("wb") as output:
        command = ["chromedriver", "--port=0", "--log-level=SEVERE"]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        port = _port(process, log)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as driver:
            session = _value(driver.post("/session", json=_capabilities(profile, url)))["sessionId"]
            try:
                yield Browser(driver, session)
            finally:
                driver.delete(f"/session/{session}")
    finally:
        process.terminate()
        process.wait(timeout=10)


def _capabilities(profile: Path, url: str) -> dict[str, Any]:
    host = urlsplit(url).hostname
    arguments = [
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-proxy-server",
        f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {host}",
        "--lang=en-US",
        "--window-size=1200,800",
        f"--user-data-dir={profile}",
    ]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's sandbox does not work for root.
    options = {"binary": _binary(), "args": arguments}
    wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    return {"capabilities": {"alwaysMatch": wanted}}


def _binary() -> str | None:
    return next((path for path in map(shutil.which, _BROWSERS) if path), None)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that chromedriver tells on its output."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            _, found, tail = line.partition("successfully on port ")
            if found:
                return int(tail.rstrip("."))
        time.sleep(0.05)
    raise AssertionError(f"chromedriver did not start: {log.read_text(errors='replace')}")


def _value(reply: httpx2.Response) -> Any:
    value = reply.json()["value"]
    assert reply.status_code == 200, f"{value['error']}: {value['message']}"
    return value
