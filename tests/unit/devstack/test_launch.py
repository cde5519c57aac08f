"""Parts start as soon as what they need is ready, and a failure is one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.launch import Part, launch
from devstack.process import Process, Ready, StartError


def silent(_ready: int, _total: int, _waiting: list[str]) -> None:
    return None


def sleeper(folder: Path, name: str, command: str = "exec sleep 60") -> Process:
    return Process(name, ["/bin/sh", "-c", command], folder / f"{name}.log", {"PATH": "/usr/bin:/bin"}, folder)


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Part]:
    """Makes parts that are ready at their n-th probe and note when they were started."""

    def make(name: str, order: list[str], *, after: set[str] | None = None, polls: int = 1) -> Part:
        process = sleeper(tmp_path, name, "exit 0")
        left = iter(range(polls - 1, -1, -1))

        def start() -> Ready:
            order.append(f"start {name}")
            process.start()
            return Ready(process, probe)

        def probe() -> bool:
            ready = next(left) == 0
            if ready:
                order.append(f"ready {name}")
            return ready

        return Part(name, start, frozenset(after or ()))

    return make


def test_a_part_waits_for_what_it_needs_only(begin: Callable[..., Part]) -> None:
    order: list[str] = []
    launch([begin("c", order, after={"a"}), begin("a", order), begin("b", order)], timeout=30, report=silent)
    assert order.index("start b") < order.index("ready a")
    assert order.index("ready a") < order.index("start c")


def test_progress_reaches_the_total(begin: Callable[..., Part]) -> None:
    seen: list[tuple[int, int]] = []
    launch(
        [begin("a", []), begin("b", [], after={"a"})],
        timeout=30,
        report=lambda ready, total, _waiting: seen.append((ready, total)),
    )
    assert seen[0] == (0, 2)
    assert seen[-1] == (2, 2)


def test_one_that_dies_ends_the_start_with_its_name_and_log(tmp_path: Path) -> None:
    process = sleeper(tmp_path, "session", "exit 7")

    def start() -> Ready:
        process.start()
        return Ready(process, lambda: False)

    with pytest.raises(StartError, match=r"Session ended by itself \(exit code 7\); .*session\.log$"):
        launch([Part("session", start)], timeout=30, report=silent)


def test_one_that_is_never_ready_is_told_after_the_time_allowed(tmp_path: Path) -> None:
    process = sleeper(tmp_path, "cache")

    def start() -> Ready:
        process.start()
        return Ready(process, lambda: False)

    try:
        with pytest.raises(StartError, match=r"cache was not ready after 0 seconds; .*cache\.log$"):
            launch([Part("cache", start)], timeout=0.1, report=silent)
    finally:
        process.stop()
