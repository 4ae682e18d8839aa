"""``noyau protocol``: what a client's author is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from noyau.app import make_app
from protocol.catalogue import catalogue
from tests.support.vectors import vectors

PING = next(v for v in vectors("envelopes") if v["name"] == "request with every field")
BATCH = next(v for v in vectors("batches") if v["name"] == "a broken frame among others")


def noyau(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(make_app(["protocol", "demo"]), ["protocol", *words], input=given)


def test_a_frame_is_told_field_by_field() -> None:
    done = noyau("decode", PING["hex"], "--json")
    assert done.exit_code == 0
    (told,) = json.loads(done.stdout)
    assert told["operation"] == "actor.ping"
    assert told["kind"] == "request"
    assert told["priority"] == "high"
    assert told["deadline_ms"] == 1500
    assert told["body"] == {"payload": "00ff"}


def test_a_frame_may_come_in_lines_from_standard_input() -> None:
    lines = PING["hex"][:20] + "\n" + PING["hex"][20:]
    done = noyau("decode", "-", given=lines)
    assert done.exit_code == 0
    assert "0192a1b2c3d47e5f8011223344556677" in done.stdout


def test_of_a_batch_each_frame_is_told_and_a_broken_one_is_named() -> None:
    done = noyau("decode", BATCH["hex"], "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert [one.get("error", one.get("operation")) for one in told] == [
        "actor.ping", "malformed_frame", "actor.ping",
    ]  # fmt: skip


def test_what_is_no_hexadecimal_is_wrong_usage() -> None:
    done = noyau("decode", "xyz")
    assert done.exit_code == 2
    assert "hexadecimal" in done.output


def test_the_schema_is_written_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    assert noyau("schema", "--out", str(path)).exit_code == 0
    assert json.loads(path.read_text()) == catalogue()


def test_of_one_operation_only_what_it_needs_is_shown() -> None:
    done = noyau("schema", "supervisor.status")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["reply"] == {"$ref": "#/$defs/Status"}
    assert {"Status", "ActorStatus", "Counters"} <= told["$defs"].keys()
    assert "Query" not in told["$defs"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("schema", "no.such"), "noyau protocol operations"),
        (("schema", "--out", "/no/such/folder/x"), "No such file or directory"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(words: tuple[str, ...], says: str) -> None:
    done = noyau(*words)
    assert done.exit_code == 1
    assert says in " ".join(done.output.split())


def test_every_operation_is_listed() -> None:
    done = noyau("operations", "--json")
    assert json.loads(done.stdout) == catalogue()["operations"]
    assert "supervisor.status" in noyau("operations").stdout
