"""The folder of a stack: secrets are private, the lock excludes, a reset removes only what is ours."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack.home import Home, write_private
from devstack.process import StartError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "focus")
    made.prepare_folder()
    made.prepare()
    return made


def test_secrets_are_made_once_and_only_for_their_owner(home: Home) -> None:
    first = (home.cache_secrets / "hmac").read_bytes()
    home.prepare()
    assert (home.cache_secrets / "hmac").read_bytes() == first
    assert len(first) >= 32
    assert home.secrets.stat().st_mode & 0o777 == 0o700
    assert (home.cache_secrets / "hmac").stat().st_mode & 0o777 == 0o600


def test_a_private_file_replaces_one_that_everybody_could_read(tmp_path: Path) -> None:
    path = tmp_path / "dev.env"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


def test_a_second_stack_on_the_same_folder_is_told_who_has_it(home: Home) -> None:
    descriptor = home.lock()
    with pytest.raises(StartError, match=rf"runs already on .*focus \(process {os.getpid()}\)"):
        home.lock()
    os.close(descriptor)
    os.close(home.lock())


def test_the_children_of_a_killed_stack_are_waited_for(home: Home) -> None:
    """The lock lives in the children too: a new start takes it when the last has ended."""
    descriptor = home.lock()
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read(1)"], stdin=subprocess.PIPE, pass_fds=[descriptor]
    )
    gone = subprocess.Popen(["true"])
    gone.wait()
    os.pwrite(descriptor, f"{gone.pid}".encode().ljust(10), 0)  # the holder is no more
    os.close(descriptor)
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; from devstack.home import Home; Home(Path({str(home.folder)!r})).lock()",
        ]
    )
    time.sleep(0.5)
    assert waiting.poll() is None
    child.communicate(b"x")
    assert waiting.wait(20) == 0


def test_a_lost_database_password_is_told_and_not_replaced(home: Home) -> None:
    (home.folder / "postgres").mkdir()
    (home.folder / "postgres" / "PG_VERSION").write_text("18\n")
    with pytest.raises(StartError, match="start anew with --reset"):
        home.postgres_password()


def test_reset_removes_data_and_secrets_but_nothing_that_is_not_ours(home: Home) -> None:
    (home.folder / "valkey-limits").mkdir()
    (home.folder / "holiday.jpg").write_text("mine")
    home.dev_env.write_text("FOCUS_URL=x")
    home.reset()
    assert sorted(path.name for path in home.folder.iterdir()) == ["holiday.jpg"]


def test_reset_removes_data_that_lies_elsewhere(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "PG_VERSION").write_text("18")
    (home.folder / "postgres").symlink_to(elsewhere)
    home.reset()
    assert not elsewhere.exists()
    assert not (home.folder / "postgres").is_symlink()


def test_a_full_disk_is_one_sentence(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devstack.home._NEEDED_BYTES", 10**18)
    with pytest.raises(StartError, match=r"^The disk is full: \d+ MB are free where .* lies"):
        home.prepare_folder()
