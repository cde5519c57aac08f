"""Ports on 127.0.0.1 that stay ours while a server is down."""

from __future__ import annotations

import random
import socket

# Below the ports that Linux gives to outgoing connections (32768 and up).
_FIRST, _LAST = 20_000, 32_000


class Port:
    """A reserved port. Servers that set SO_REUSEADDR (all of ours do) can listen on it.

    The reservation is a bound socket that never listens: nobody else gets the port
    while a server restarts, and until one listens connections are refused as usual.
    """

    def __init__(self, number: int = 0) -> None:
        """Reserves `number`, or a free port for 0. Raises OSError (EADDRINUSE) if somebody listens on it."""
        # A given port may have closed connections in TIME_WAIT, which reuse overlooks; for
        # a port of our choice the strict check also sees the reservations of others.
        self._socket = _bind(number, reuse=True) if number else _bind_any()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self.number}"

    def close(self) -> None:
        """Gives the port back."""
        self._socket.close()


def _bind(number: int, *, reuse: bool) -> socket.socket:
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if reuse:
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", number))
    except OSError:
        reservation.close()
        raise
    return reservation


def _bind_any() -> socket.socket:
    for _ in range(200):
        try:
            return _bind(random.randint(_FIRST, _LAST), reuse=False)  # noqa: S311
        except OSError:
            continue
    return _bind(0, reuse=False)
