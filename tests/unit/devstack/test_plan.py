"""What the environment means to `make run`, and what arguments mean to `make test`."""

from pathlib import Path

import pytest

from devstack import __main__ as run
from devstack.home import Home
from devstack.services import Making, Service
from tests.__main__ import arguments


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith(("FOCUS_", "GEMINI_", "GOOGLE_")):
            monkeypatch.delenv(name)


def test_without_a_key_the_emulator_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = run._plan(reset=False)
    assert (plan.port, plan.backend, plan.home.name) == (8080, "local", ".focus")


def test_with_a_key_the_provider_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    monkeypatch.setenv("FOCUS_LLM_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FOCUS_PORT", "9000")
    plan = run._plan(reset=True)
    assert (plan.port, plan.backend, plan.reset) == (9000, None, True)
    assert plan.settings["FOCUS_LLM_BASE_URL"] == "http://127.0.0.1:1"


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_a_port_that_is_none_is_one_sentence(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCUS_PORT", port)
    with pytest.raises(ValueError, match="number from 1 to 65535"):
        run._plan(reset=False)


def test_a_base_url_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCUS_LLM_BASE_URL", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match="GEMINI_API_KEY is not"):
        run._plan(reset=False)


@pytest.fixture
def making(tmp_path: Path) -> Making:
    return Making(Home(tmp_path), {"GEMINI_API_KEY": "secret", "FOCUS_GATEWAY_LISTEN": "0.0.0.0:1"})


def environment(service: Service) -> dict[str, str]:
    service.port.close()
    return dict(service.process.environment)


def test_only_the_llm_service_gets_the_providers_key(making: Making) -> None:
    assert environment(making.llm("llm", "redis://x", None))["GEMINI_API_KEY"] == "secret"
    assert "secret" not in environment(making.cache("cache", "redis://x")).values()
    assert "secret" not in environment(making.session("session", "postgresql://x", "redis://x")).values()


def test_with_the_emulator_nothing_of_the_environment_reaches_the_provider(
    making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "other")
    seen = environment(making.llm("llm", "redis://x", "http://127.0.0.1:5"))
    assert seen["FOCUS_LLM_BASE_URL"] == "http://127.0.0.1:5"
    assert "GOOGLE_API_KEY" not in seen


def test_what_the_stack_decides_wins_over_what_is_passed_on(making: Making) -> None:
    from devstack.ports import Port

    port = Port()
    replicas = [making.cache(f"cache-{number}", "redis://x") for number in (1, 2)]
    gateway = making.gateway("gateway", port, sessions=replicas[:1], caches=replicas, llms=replicas[:1])
    seen = environment(gateway)
    assert seen["FOCUS_GATEWAY_LISTEN"] == f"127.0.0.1:{port.number}"
    assert seen["FOCUS_GATEWAY_CACHE_TARGET"] == f"ipv4:///{replicas[0].address},{replicas[1].address}"
    for replica in replicas:
        replica.port.close()


def test_all_folders_run_in_parallel_unless_told_otherwise() -> None:
    given = arguments([], cores=2)
    assert given[:4] == ["-n", "2", "--dist", "loadscope"]
    assert [Path(one).name for one in given[4:]] == ["unit", "contract", "integration", "e2e", "chaos"]


def test_given_paths_and_options_are_passed_on() -> None:
    assert arguments(["tests/unit", "-k", "x"], cores=1) == ["-n", "1", "--dist", "loadscope", "tests/unit", "-k", "x"]
    assert arguments(["tests/unit/devstack/test_plan.py::test_x", "-n0"], cores=2) == [
        "tests/unit/devstack/test_plan.py::test_x",
        "-n0",
    ]


def test_the_long_forms_run_one_at_a_time() -> None:
    given = arguments(["--chaos"], cores=8)
    assert "--long" in given
    assert "-n" not in given
    assert Path(given[-1]).name == "chaos"


def test_only_the_end_to_end_tests_run_against_a_deployed_system() -> None:
    given = arguments(["--base-url", "http://127.0.0.1:8080"], cores=2)
    assert [Path(one).name for one in given if "tests" in one] == ["e2e"]
