"""The embedded PostgreSQL and Valkey do what the services and the chaos tests need of them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest

from devstack.ports import Port
from devstack.postgres import Postgres
from devstack.process import Process, Ready, StartError, wait_until_ready
from devstack.valkey import Valkey

pytestmark = pytest.mark.timeout(90)


async def test_services_connect_as_the_owner_of_their_database_not_as_superuser(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT current_user") == "focus"
        assert await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        await connection.execute("CREATE TABLE t (x int)")
    finally:
        await connection.close()


async def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://focus:wrong@{postgres.port.address}/focus")


def test_postgres_comes_back_on_its_port_after_kill_9_with_what_was_committed(postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE IF NOT EXISTS kept (x int); INSERT INTO kept VALUES (1); CHECKPOINT")
    postgres.process.kill()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", postgres.port.number), timeout=2).close()
    wait_until_ready([postgres.start()], timeout=60)
    assert postgres.execute("SELECT count(*) > 0 FROM kept") == "t"
    postgres.execute("DROP TABLE kept")


def test_data_of_another_major_version_is_refused_with_a_sentence(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("old")
    server = Postgres(folder, folder / "postgres.log", password="x")
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(StartError, match=r"made by PostgreSQL 12, this is 18; .*--reset"):
        server.start()
    server.stop()
    for path in [server.data / "PG_VERSION"]:
        path.unlink()
    server.data.rmdir()


def test_valkey_of_the_limits_refuses_rather_than_forgets_and_the_caches_one_forgets(
    valkey: Valkey, valkey_cache: Valkey
) -> None:
    assert b"noeviction" in valkey.command("CONFIG", "GET", "maxmemory-policy")
    assert b"allkeys-lfu" in valkey_cache.command("CONFIG", "GET", "maxmemory-policy")


def test_limits_survive_a_restart_of_valkey_and_cached_answers_do_not(valkey: Valkey, valkey_cache: Valkey) -> None:
    for server in (valkey, valkey_cache):
        server.command("SET", "k", "v")
        server.process.stop()
        wait_until_ready([server.start()], timeout=30)
    assert valkey.command("GET", "k") == b"$1\r\nv\r\n"
    assert valkey_cache.command("GET", "k") == b"$-1\r\n"


def test_every_test_finds_valkey_empty(valkey: Valkey) -> None:
    assert valkey.command("DBSIZE") == b":0\r\n"


def test_a_paused_process_keeps_its_connections_and_goes_on(valkey: Valkey) -> None:
    with socket.create_connection(("127.0.0.1", valkey.port.number), timeout=5) as connection:
        valkey.process.pause()
        connection.sendall(b"PING\r\n")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(16)
        valkey.process.resume()
        connection.settimeout(10)
        assert connection.recv(16) == b"+PONG\r\n"


def test_a_reserved_port_is_refused_to_others_and_given_to_its_server() -> None:
    port = Port()
    stranger = socket.socket()
    with pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", port.number))
    stranger.close()
    server = socket.create_server(("127.0.0.1", port.number))  # sets SO_REUSEADDR
    socket.create_connection(("127.0.0.1", port.number), timeout=2).close()
    with pytest.raises(OSError, match="in use"):
        Port(port.number)
    server.close()
    port.close()


def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from devstack.process import Process\n"
        "p = Process('child', ['/bin/sleep', '600'], Path(sys.argv[1]) / 'log', {}, Path('/')); p.start()\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    while "sleep" not in child.name():
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs([child], timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE], (gone, alive)


def test_a_process_that_dies_at_start_is_told_with_its_log(tmp_path: Path) -> None:
    process = Process("the thing", ["/bin/sh", "-c", "exit 3"], tmp_path / "thing.log", {}, tmp_path)
    process.start()
    with pytest.raises(StartError, match=r"The thing ended by itself \(exit code 3\).*thing\.log"):
        wait_until_ready([Ready(process, lambda: False)], timeout=30)


def test_a_process_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    process = Process(
        "deaf", [sys.executable, "-c", deaf], tmp_path / "log", dict(os.environ), tmp_path, stop_seconds=0.2
    )
    process.start()
    wait_until_ready([Ready(process, lambda: b"deaf" in process.log.read_bytes())], timeout=30)
    process.stop()
    assert process.exit_code == -signal.SIGKILL


def test_the_log_of_the_run_before_is_kept_once(tmp_path: Path) -> None:
    for word in ("first", "second", "third"):
        process = Process("echo", ["/bin/echo", word], tmp_path / "echo.log", {}, tmp_path)
        process.start()
        wait_until_ready([Ready(process, lambda: not process.running)], timeout=30)  # noqa: B023
    assert (tmp_path / "echo.log").read_text() == "third\n"
    assert (tmp_path / "echo.log.previous").read_text() == "second\n"


async def test_tests_cannot_reach_another_machine() -> None:
    with pytest.raises(AssertionError, match="this machine only"):
        socket.create_connection(("192.0.2.1", 443), timeout=1)
    with pytest.raises(AssertionError, match="this machine only"):
        await asyncio.get_running_loop().getaddrinfo("generativelanguage.googleapis.com", 443)
