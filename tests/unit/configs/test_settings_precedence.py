"""Which place wins, and how a text becomes a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs import Settings, load_settings

THREADS = "NOYAU_ACTORS__CPU_ENGINE__SETTINGS__THREADS"


def threads(settings: Settings) -> object:
    return settings.actors["cpu_engine"].settings["threads"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text("[actors.cpu_engine.settings]\nthreads = 1\n")
    return path


def test_defaults_hold_where_nothing_is_said() -> None:
    settings = load_settings(environ={})
    assert list(settings.actors) == [
        "storage",
        "cpu_engine",
        "gpu_engine",
        "memory",
        "tool_user",
        "orchestrator",
    ]
    assert settings.query.engines == ["gpu_engine", "cpu_engine"]
    assert settings.supervisor.heartbeat_interval_s == 0.25


def test_a_file_wins_over_the_default(file: Path) -> None:
    assert threads(load_settings(environ={})) is None
    assert threads(load_settings(file=file, environ={})) == 1


def test_a_variable_wins_over_the_file(file: Path) -> None:
    assert threads(load_settings(file=file, environ={THREADS: "2"})) == 2


def test_an_assignment_wins_over_the_variable(file: Path) -> None:
    text = "actors.cpu_engine.settings.threads=3"
    assert threads(load_settings(file=file, environ={THREADS: "2"}, assignments=[text])) == 3


def test_the_last_assignment_wins() -> None:
    texts = ["admission.max_waiting=1", "admission.max_waiting=2"]
    assert load_settings(environ={}, assignments=texts).admission.max_waiting == 2


def test_a_file_keeps_what_it_does_not_name(file: Path) -> None:
    settings = load_settings(file=file, environ={})
    assert settings.actors["cpu_engine"].needs == ["storage"]
    assert settings.actors["cpu_engine"].settings["slots"] == 4


def test_noyau_config_names_the_file_only_when_no_file_is_given(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[actors.cpu_engine.settings]\nthreads = 9\n")
    environ = {"NOYAU_CONFIG": str(other)}
    assert threads(load_settings(environ=environ)) == 9
    assert threads(load_settings(file=file, environ=environ)) == 1


def test_a_variable_that_holds_a_whole_table_stands_below_its_parts() -> None:
    environ = {
        "NOYAU_QUERY__MAX_CONTINUATIONS": "7",
        "NOYAU_QUERY": "{max_continuations = 1, deadline_s = 5}",
    }
    query = load_settings(environ=environ).query
    assert (query.max_continuations, query.deadline_s) == (7, 5)


def test_a_value_that_is_no_toml_is_plain_text() -> None:
    texts = [
        "actors.cpu_engine.settings.model=/models/a model.gguf",
        "actors.orchestrator.settings.system_prompt=Be brief = good.",
    ]
    actors = load_settings(environ={}, assignments=texts).actors
    assert actors["cpu_engine"].settings["model"] == "/models/a model.gguf"
    assert actors["orchestrator"].settings["system_prompt"] == "Be brief = good."


def test_a_list_replaces_the_list_before_it() -> None:
    text = "actors.cpu_engine.needs=[]"
    assert load_settings(environ={}, assignments=[text]).actors["cpu_engine"].needs == []


def test_folders_come_from_the_given_environment() -> None:
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_DATA_HOME": "/home/ada/data"}
    settings = load_settings(environ=environ)
    assert settings.run.folder == Path("/run/user/7/noyau")
    assert settings.data.assets_folder == Path("/home/ada/data/noyau/assets")
    assert settings.data.logs_folder == Path("/home/ada/data/noyau/logs")


@pytest.mark.parametrize("announced", ["", "relative"])
def test_an_empty_or_relative_runtime_folder_counts_as_unset(announced: str) -> None:
    settings = load_settings(environ={"XDG_RUNTIME_DIR": announced})
    assert settings.run.folder.name.startswith("noyau-")


def test_a_relative_folder_becomes_absolute() -> None:
    settings = load_settings(environ={}, assignments=["run.folder=here"])
    assert settings.run.folder == Path.cwd() / "here"


def test_a_disabled_actor_is_gone() -> None:
    texts = ["actors.cpu_engine.enabled=false"]
    actors = load_settings(environ={}, assignments=texts).actors
    assert list(actors) == ["storage", "gpu_engine", "memory", "tool_user", "orchestrator"]


def test_a_class_of_one_s_own_keeps_its_settings_as_they_are() -> None:
    environ = {
        "NOYAU_ACTORS__ECHO__CLASS": "mine.echo:Echo",
        "NOYAU_ACTORS__ECHO__SETTINGS__LOUD": "true",
    }
    echo = load_settings(environ=environ).actors["echo"]
    assert (echo.class_path, echo.settings) == ("mine.echo:Echo", {"loud": True})


def test_settings_survive_the_way_through_plain_values() -> None:
    settings = load_settings(environ={}, assignments=["actors.storage.settings.manifest=/a.toml"])
    assert settings.actors["storage"].settings["manifest"] == "/a.toml"
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


def test_settings_without_some_actors_survive_that_way_too() -> None:
    switched_off = [f"actors.{name}.enabled=false" for name in ("gpu_engine", "memory")]
    settings = load_settings(environ={}, assignments=switched_off)
    assert settings.query.engines == ["cpu_engine"]
    assert settings.actors["orchestrator"].uses == ["cpu_engine", "tool_user"]
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings
