"""How often processes were started again, counted through all supervisors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supervision.restarts import FILE, RestartsFile, inherited

NAMES = ["storage", "spawner"]


def test_the_first_supervisor_counts_from_zero_whatever_lies_there() -> None:
    assert inherited('{"storage": 7}', NAMES, 0) == {"storage": 0, "spawner": 0}


def test_a_supervisor_that_follows_adds_the_restart_that_it_brings() -> None:
    left = json.dumps({"storage": 3, "spawner": 1, "gone_from_the_settings": 9})
    assert inherited(left, NAMES, 1) == {"storage": 4, "spawner": 2}


def test_an_actor_that_is_new_in_the_settings_has_been_started_with_each_supervisor() -> None:
    assert inherited('{"spawner": 5}', NAMES, 2) == {"storage": 2, "spawner": 6}


@pytest.mark.parametrize(
    "left",
    ["", "{", "null", "[]", '{"storage": "3"}', '{"storage": -4}', '{"storage": true}', "\x00"],
)
def test_what_cannot_be_read_counts_as_lost(left: str) -> None:
    assert inherited(left, ["storage"], 2) == {"storage": 2}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    RestartsFile(tmp_path).write({"storage": 3})
    assert inherited(RestartsFile(tmp_path).read(), ["storage"], 1) == {"storage": 4}


def test_counts_that_have_not_changed_are_not_written_again(tmp_path: Path) -> None:
    file = RestartsFile(tmp_path)
    file.write({"storage": 3})
    (tmp_path / FILE).unlink()
    file.write({"storage": 3})
    assert not (tmp_path / FILE).exists()
    file.write({"storage": 4})
    assert (tmp_path / FILE).exists()


def test_an_end_as_told_leaves_nothing_behind(tmp_path: Path) -> None:
    file = RestartsFile(tmp_path)
    file.write({"storage": 3})
    file.remove()
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_no_file_and_no_text_are_nothing(tmp_path: Path) -> None:
    assert RestartsFile(tmp_path / "none").read() == ""
    (tmp_path / FILE).write_bytes(b"\xff\xfe")
    assert RestartsFile(tmp_path).read() == ""
