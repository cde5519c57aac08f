import socket
import urllib.request

import pytest

from services.common import metrics


@pytest.mark.parametrize(
    ("address", "pair"),
    [("127.0.0.1:9100", ("127.0.0.1", 9100)), ("[::1]:0", ("::1", 0)), ("host:65535", ("host", 65535))],
)
def test_an_address_is_host_and_port(address: str, pair: tuple[str, int]) -> None:
    assert metrics.split_address(address) == pair


@pytest.mark.parametrize("address", ["", "9100", ":9100", "host:", "host:http", "host:65536", "host:-1"])
def test_anything_else_ends_the_process_with_one_sentence(address: str) -> None:
    with pytest.raises(SystemExit, match="is not host:port"):
        metrics.split_address(address)


def test_metrics_are_shown_while_the_context_is_open() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with metrics.exposed(address):
        page = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
        assert "focus_rpc_seconds" in page
        with (
            pytest.raises(SystemExit, match=f"cannot show metrics on {address}: Address already in use"),
            metrics.exposed(address),
        ):
            pass
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{address}/metrics", timeout=10)


def test_without_an_address_nothing_listens() -> None:
    with metrics.exposed(""):
        pass
