import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.common import watch


class Seen:
    """Counts changes; fails as often as it is told."""

    def __init__(self) -> None:
        self.count = 0
        self.failures = 0
        self._changed = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._changed.set()
        if self.failures:
            self.failures -= 1
            raise ValueError("a bad file")

    async def change(self) -> None:
        async with asyncio.timeout(10):
            await self._changed.wait()
        self._changed.clear()


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[Seen]:
    seen = Seen()
    async with watch.watching(path, seen, interval=0.02):
        yield seen


async def test_files_that_come_change_and_go_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "file"
    async with watched(tmp_path) as seen:
        file.parent.mkdir()
        file.write_text("1")
        await seen.change()
        file.write_text("22")
        await seen.change()
        file.unlink()
        await seen.change()


async def test_a_replaced_file_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / ".other"
    file.write_text("1")
    other.write_text("2")
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    async with watched(tmp_path) as seen:
        os.utime(other, ns=times)
        other.replace(file)
        await seen.change()


async def test_a_swapped_mount_is_noticed(tmp_path: Path) -> None:
    for version in ("..v1", "..v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text("same size")
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "key").symlink_to("..data/key")
    async with watched(tmp_path) as seen:
        (tmp_path / "..next").symlink_to("..v2")
        (tmp_path / "..next").replace(tmp_path / "..data")
        await seen.change()


async def test_a_single_file_can_be_watched_and_may_appear_later(tmp_path: Path) -> None:
    async with watched(tmp_path / "file") as seen:
        (tmp_path / "other").write_text("x")
        (tmp_path / "file").write_text("x")
        await seen.change()
        assert seen.count == 1


async def test_a_failure_does_not_end_the_watch(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        seen.failures = 1
        (tmp_path / "bad").write_text("x")
        await seen.change()
        (tmp_path / "good").write_text("x")
        await seen.change()


async def test_without_a_change_and_for_hidden_names_nothing_is_called(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    async with watched(tmp_path) as seen:
        (tmp_path / ".new-file").write_text("half written")
        (tmp_path / "file").read_text()
        await asyncio.sleep(0.1)
    (tmp_path / "after").write_text("x")
    await asyncio.sleep(0.1)
    assert seen.count == 0


def test_a_directory_that_is_not_there_has_a_fingerprint_too(tmp_path: Path) -> None:
    assert watch.fingerprint(tmp_path / "missing") == ()
    assert watch.fingerprint(tmp_path) == ()
