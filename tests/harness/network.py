"""No test reaches anything but this machine, except the system named by --base-url."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest


class ForeignConnection(AssertionError):
    """A test tried to reach another machine."""


def is_loopback(host: str) -> bool:
    """True for localhost and addresses of the loopback network; names are not looked up."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host in {"localhost", "localhost.localdomain", ""}


@pytest.fixture(scope="session", autouse=True)
def only_this_machine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Connections and look-ups of other machines fail inside the test process.

    Covers everything that goes through Python's sockets, uvloop's look-ups included;
    the processes that tests start get the emulator's address and no key.
    """
    base_url: str | None = request.config.getoption("--base-url")
    allowed = urlsplit(base_url).hostname if base_url else None
    addresses: set[str] = set()

    def check(host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or not isinstance(name, str) or is_loopback(name) or name in addresses:
            return
        if name == allowed:
            return
        raise ForeignConnection(f"a test tried to reach {name}; tests talk to this machine only")

    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def checked_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])
        connect(self, address)

    def checked_connect_ex(self: socket.socket, address: Any) -> int:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])
        return connect_ex(self, address)

    def checked_look_up(host: Any, *args: Any, **options: Any) -> Any:
        check(host)
        found = look_up(host, *args, **options)
        if host is not None and host == allowed:
            addresses.update(str(entry[4][0]) for entry in found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket.socket, "connect_ex", checked_connect_ex)
        patch.setattr(socket, "getaddrinfo", checked_look_up)
        yield
