"""Every wrong setting is told, all at once, with its place and what would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from configs import load_settings
from protocol.errors import InvalidSettings

Rows = list[dict[str, str]]


def errors(
    *assignments: str, file: Path | None = None, environ: Mapping[str, str] | None = None
) -> Rows:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(file=file, environ=environ or {}, assignments=assignments)
    rows: Rows = caught.value.details["errors"]
    assert len(str(caught.value).splitlines()) == len(rows) + 1
    return rows


def only(rows: Sequence[dict[str, str]]) -> dict[str, str]:
    assert len(rows) == 1, rows
    return rows[0]


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_all_errors_of_all_places_come_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, "[limits]\nmax_frame_bytes = 0\n[query]\nengines = ['gpu']\n")
    environ = {"NOYAU_QUERY__DEADLINE_S": "soon"}
    rows = errors("restart.window_s=-1", "nonsense", file=file, environ=environ)
    assert {(row["place"], row["setting"]) for row in rows} == {
        (f"configs file {file}", "limits.max_frame_bytes"),
        (f"configs file {file}", "query.engines"),
        ("variable NOYAU_QUERY__DEADLINE_S", "query.deadline_s"),
        ("--set restart.window_s=-1", "restart.window_s"),
        ("--set nonsense", ""),
    }


def test_the_message_is_one_line_for_each_error() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(environ={}, assignments=["limits.max_frame_bytes=0"])
    assert str(caught.value) == (
        "1 setting is wrong:\n"
        "  --set limits.max_frame_bytes=0: limits.max_frame_bytes: 0 is out of bounds; "
        "give 65536 to 1073741824 bytes"
    )


@pytest.mark.parametrize(
    ("assignment", "problem", "remedy"),
    [
        (
            "supervisor.heartbeat_interval_s=0",
            "0 is out of bounds",
            "give 0.01 to 60 seconds",
        ),
        (
            "limits.max_frame_bytes=1",
            "1 is out of bounds",
            "give 65536 to 1073741824 bytes",
        ),
        (
            "admission.max_waiting=1.5",
            "1.5 is not a whole number",
            "give one, without quotes or fraction",
        ),
        (
            "admission.max_waiting=true",
            "true is not a whole number",
            "give one, without quotes or fraction",
        ),
        ('query.deadline_s="2"', "'2' is not a number", "give a number, without quotes"),
        ("query.deadline_s=inf", "inf is not a finite number", "give a number"),
        ("query.engines=cpu", "'cpu' is not a list", 'give one, such as ["cpu_engine"]'),
        ("actors.storage.needs=[3]", "3 is not text", 'give it in quotes, such as "42"'),
        ("run=3", "3 is not a table", "give settings by name under it"),
        ("run.folder=3", "3 is not a path", "give one in quotes"),
        ("run.folder=", "the path is empty", "give a folder or file, such as /srv/noyau"),
        (
            "actors.storage.enabled=1",
            "1 is not true or false",
            "give one of the two, without quotes",
        ),
        (
            "actors.storage.restart=never",
            "'never' is none of the choices",
            "give 'permanent', 'transient' or 'temporary'",
        ),
        (
            "actors.storage.cpus=[]",
            "[] is no choice of CPUs",
            "give some of their numbers, such as [0, 1]",
        ),
        (
            "actors.storage.cpus=[0, -1]",
            "[0, -1] is no choice of CPUs",
            "give some of their numbers, such as [0, 1]",
        ),
        ("actors.storage.cpus=0", "0 is not a list", 'give one, such as ["cpu_engine"]'),
        ("actors.storage.niceness=-1", "-1 is out of bounds", "give 0 to 19"),
        ("actors.storage.max_open_files=3", "3 is out of bounds", "give 64 to 1073741816"),
        (
            "actors.storage.class=Storage",
            "'Storage' names no class",
            'write "package.module:Class"',
        ),
        (
            "actors.storage.class_path=a:B",
            "class and class_path are the same setting",
            "write class alone",
        ),
        (
            "actors.cpu_engine.settings.threads=0",
            "0 is out of bounds",
            "give 1 to 1024",
        ),
        (
            "actors.cpu_engine.settings.model=",
            "the text is empty",
            "give some text, or leave the setting out",
        ),
        (
            "actors.orchestrator.settings.system_prompt=42",
            "42 is not text",
            'give it in quotes, such as "42"',
        ),
        (
            "admission.max_waitin=3",
            "there is no such setting",
            "did you mean admission.max_waiting?",
        ),
        (
            "actors.gpu_engine.settings.url=lab:8080/v1",
            "'lab:8080/v1' is no URL of a server",
            "write http:// or https://, a host and the path of its API, such as "
            "http://127.0.0.1:8080/v1",
        ),
        (
            "actors.gpu_engine.settings.url=https://me:secret@lab/v1",
            "the URL holds more than a host and a path",
            "leave user, password and all behind a ? or # out; a key goes into a file of its own "
            "(api_key_file)",
        ),
        (
            "actors.gpu_engine.settings.backend=openai_http",
            "the backend openai_http has no server",
            "set url, such as http://127.0.0.1:8080/v1",
        ),
        (
            "actors.cpu_engine.settings.embedding_models.default=/m.gguf",
            "default is the name of the first model",
            "give the further one another name, or set model",
        ),
        (
            "actors.cpu_engine.settings.models.default=/m.gguf",
            "default is the name of the first model",
            "give the further one another name, or set model",
        ),
        (
            "supervisor.backoff_max_s=3",
            "there is no such setting",
            "did you mean restart.backoff_max_s?",
        ),
        ("run.zzz=3", "there is no such setting", "known here: folder"),
        (
            "remote.listen=lab:5570",
            "'lab:5570' is no address to listen at",
            "write tcp://ADDRESS:PORT with an address of this machine, such as "
            "tcp://192.168.1.20:5570, tcp://[::1]:5570, or tcp://*:5570 for all of them",
        ),
        (
            "remote.listen=tcp://lab:65530",
            "each actor takes one of the ports above remote.listen, up to 65536, and there are "
            "none above 65535",
            "make its port 1 lower, at least",
        ),
        (
            "remote.listen=tcp://lab:0",
            "'tcp://lab:0' has no port that exists",
            "take one from 1 to 65535",
        ),
        (
            "zzz=3",
            "there is no such setting",
            "known here: actors, admission, chaos, data, device, engine_breaker, hang, health, "
            "limits, logs, query, query_breaker, remote, restart, run, supervisor, watchdog",
        ),
        (
            "a..b=1",
            "the name has an empty part",
            "write NAME=VALUE, such as --set query.deadline_s=60",
        ),
        ("query", "there is no value", "write NAME=VALUE, such as --set query.deadline_s=60"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_would_be_right(
    assignment: str, problem: str, remedy: str
) -> None:
    row = only(errors(assignment))
    assert row["place"] == f"--set {assignment}"
    assert (row["problem"], row["remedy"]) == (problem, remedy)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("NOYAU_RUN_FOLDER", "NOYAU_RUN__FOLDER"),
        ("NOYAU_RUNN__FOLDER", "NOYAU_RUN__FOLDER"),
        ("NOYAU_QUERY__DEADLINE", "NOYAU_QUERY__DEADLINE_S"),
        (
            "NOYAU_ACTORS__CPU_ENGINE__SETTINGS__THREAD",
            "NOYAU_ACTORS__CPU_ENGINE__SETTINGS__THREADS",
        ),
    ],
)
def test_an_unknown_variable_is_told_the_nearest_variable(variable: str, meant: str) -> None:
    row = only(errors(environ={variable: "1"}))
    assert row["place"] == f"variable {variable}"
    assert row["remedy"] == f"did you mean {meant}?"


def test_a_variable_with_an_empty_part_is_told_the_form() -> None:
    row = only(errors(environ={"NOYAU_RUN__": "1"}))
    assert row["remedy"] == "write it like NOYAU_RUN__FOLDER"


def test_a_misspelt_actor_is_told_its_neighbour() -> None:
    row = only(errors("actors.cpu_engin.enabled=true"))
    assert row["setting"] == "actors.cpu_engin.class"
    assert row["remedy"].startswith("did you mean actors.cpu_engine?")


@pytest.mark.parametrize("name", ["Storage", "2nd", "a__b", "a-b", "supervisor", "spawner"])
def test_a_bad_or_reserved_actor_name_is_refused(name: str) -> None:
    row = only(errors(f"actors.{name}.class=a:B"))
    assert row["setting"] == f"actors.{name}"


def test_a_missing_class_is_blamed_on_the_place_that_began_the_actor(tmp_path: Path) -> None:
    file = written(tmp_path, "[actors.mine]\nneeds = []\n")
    row = only(errors(file=file, environ={"NOYAU_ACTORS__MINE__ENABLED": "true"}))
    assert row["place"] == f"configs file {file}"
    assert row["remedy"] == 'name its class, such as class = "package.module:Class"'


def test_a_syntax_error_names_file_line_and_column(tmp_path: Path) -> None:
    file = written(tmp_path, "[run]\nfolder =\n")
    row = only(errors(file=file))
    assert row["place"] == f"configs file {file}, line 2, column 9"


def test_a_syntax_error_at_the_end_has_a_line_and_column_too(tmp_path: Path) -> None:
    file = written(tmp_path, "[run]\nfolder = [")
    assert only(errors(file=file))["place"] == f"configs file {file}, line 2, column 11"


def test_a_syntax_error_does_not_hide_the_errors_of_other_places(tmp_path: Path) -> None:
    rows = errors("query.max_waiting=-1", file=written(tmp_path, "run"))
    assert [row["setting"] for row in rows] == ["", "query.max_waiting"]


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    row = only(errors(environ={"NOYAU_CONFIG": str(tmp_path / "none.toml")}))
    assert row["place"] == f"configs file {tmp_path / 'none.toml'}"
    assert row["problem"] == "cannot be read: No such file or directory"
    assert row["remedy"].endswith("NOYAU_CONFIG names this one")


def test_a_file_that_is_not_utf8_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(b"# \xff\n")
    assert only(errors(file=file))["problem"] == "is not UTF-8 text (byte 2)"


def test_a_long_value_is_cut_in_the_message() -> None:
    row = only(errors(f"query.deadline_s={'x' * 500}"))
    assert len(row["place"]) < 100
    assert len(row["problem"]) < 100
