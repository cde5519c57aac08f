import pytest
from pydantic import AliasChoices, Field
from pydantic_settings import SettingsConfigDict

from services.common import settings
from services.common.settings import GrpcSettings


class Example(GrpcSettings):
    model_config = SettingsConfigDict(env_prefix="FOCUS_EXAMPLE_")

    database_url: str
    size: int = Field(default=3, ge=1)
    names: list[str] = Field(default_factory=list)
    key: str = Field(default="", max_length=5, validation_alias=AliasChoices("FOCUS_EXAMPLE_KEY", "OTHER_KEY"))


def test_settings_come_from_the_environment_with_the_services_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCUS_EXAMPLE_DATABASE_URL", "postgresql://db")
    monkeypatch.setenv("FOCUS_EXAMPLE_GRPC_LISTEN", "127.0.0.1:7000")
    monkeypatch.setenv("FOCUS_EXAMPLE_NAMES", '["a", "b"]')
    monkeypatch.setenv("OTHER_KEY", "k")
    loaded = settings.load(Example)
    assert (loaded.database_url, loaded.grpc_listen, loaded.size) == ("postgresql://db", "127.0.0.1:7000", 3)
    assert (loaded.names, loaded.key) == (["a", "b"], "k")


def test_every_fault_is_one_sentence_that_names_the_variable_and_not_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOCUS_EXAMPLE_SIZE", "hunter2")
    monkeypatch.setenv("FOCUS_EXAMPLE_LOG_LEVEL", "loud")
    monkeypatch.setenv("FOCUS_EXAMPLE_DRAIN_SECONDS", "-1")
    monkeypatch.setenv("OTHER_KEY", "hunter2-too-long")
    with pytest.raises(SystemExit) as caught:
        settings.load(Example)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert sorted(line.partition(":")[0] for line in told.splitlines()) == [
        "setting FOCUS_EXAMPLE_DATABASE_URL",
        "setting FOCUS_EXAMPLE_DRAIN_SECONDS",
        "setting FOCUS_EXAMPLE_KEY",
        "setting FOCUS_EXAMPLE_LOG_LEVEL",
        "setting FOCUS_EXAMPLE_SIZE",
    ]
    assert "hunter2" not in told


def test_a_list_that_is_not_json_is_told_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOCUS_EXAMPLE_DATABASE_URL", "postgresql://db")
    monkeypatch.setenv("FOCUS_EXAMPLE_NAMES", "hunter2")
    with pytest.raises(SystemExit):
        settings.load(Example)
    (line,) = capsys.readouterr().err.splitlines()
    assert '"names"' in line
    assert "hunter2" not in line
