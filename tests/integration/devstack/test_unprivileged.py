"""As root, PostgreSQL runs as somebody else, also where that somebody cannot enter the checkout."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import unprivileged
from devstack.postgres import Postgres
from devstack.process import wait_until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture
def closed(scratch: Path) -> Iterator[Path]:
    """A folder that only root can enter, like root's home."""
    folder = scratch / "closed"
    folder.mkdir(mode=0o700, exist_ok=True)
    yield folder
    folder.chmod(0o700)


@pytest.fixture
def reachable(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = scratch / "var-lib"
    monkeypatch.setattr(unprivileged, "_REACHABLE", folder)
    return folder


def test_data_below_a_closed_folder_lies_elsewhere_and_the_folder_stays_closed(closed: Path, reachable: Path) -> None:
    server = Postgres(closed / "home", closed / "postgres.log", password="x", durable=False)
    try:
        wait_until_ready([server.start()], timeout=60)
        assert server.execute("SELECT 1") == "1"
        assert server.data.parent == reachable
        assert (closed / "home" / "postgres").resolve() == server.data
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        server.stop()


def test_data_elsewhere_is_kept_while_the_link_is_there_and_dropped_with_it(closed: Path, reachable: Path) -> None:
    account = unprivileged.account()
    link = closed / "postgres"
    target = unprivileged.data_folder(link, account)
    target.mkdir()
    (target / "PG_VERSION").write_text("18")
    assert (unprivileged.data_folder(link, account) / "PG_VERSION").exists()
    link.unlink()
    assert not (unprivileged.data_folder(link, account) / "PG_VERSION").exists()


def test_binaries_below_a_closed_folder_are_copied_once_and_run(
    reachable: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = unprivileged.account()
    monkeypatch.setattr(unprivileged, "_can_enter", lambda folder, _user: False)
    first = unprivileged.postgres_binaries(account)
    monkeypatch.undo()
    monkeypatch.setattr(unprivileged, "_REACHABLE", reachable)
    assert first.is_relative_to(reachable)
    made = first.stat().st_ctime_ns
    monkeypatch.setattr(unprivileged, "_can_enter", lambda folder, _user: folder == scratch / "copied")
    assert unprivileged.postgres_binaries(account).stat().st_ctime_ns == made
    server = Postgres(scratch / "copied" / "home", scratch / "copied.log", password="x", durable=False)
    try:
        wait_until_ready([server.start()], timeout=60)
        assert server.process.command[0].startswith(str(reachable))
    finally:
        server.stop()
