"""Logs: JSON lines, and no more of them than a disk has room for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from actors.kernel.logs import RotatingFile, log_to
from configs.sections import LogSettings

SMALL = LogSettings(max_file_mib=0.01, kept_files=2)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_what_was_said_and_who_said_it(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.jsonl"
    log_to(path, LogSettings(), actor="storage", pid=7)
    structlog.get_logger().warning("lost", reason="it was killed")
    (found,) = lines(path)
    assert (found["event"], found["level"], found["reason"]) == ("lost", "warning", "it was killed")
    assert (found["actor"], found["pid"]) == ("storage", 7)


def test_the_next_incarnation_writes_behind_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for pid in (1, 2):
        log_to(path, LogSettings(), pid=pid)
        structlog.get_logger().info("started")
    assert [line["pid"] for line in lines(path)] == [1, 2]


def test_a_full_file_is_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    log_to(path, SMALL)
    for number in range(400):
        structlog.get_logger().info("said", number=number, ballast="x" * 100)
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    assert all(one.stat().st_size <= 0.01 * 2**20 for one in tmp_path.iterdir())
    kept = [line["number"] for name in reversed(names) for line in lines(tmp_path / name)]
    # None is missing among those that are kept, and the last one is there.
    assert kept == list(range(400 - len(kept), 400))
    assert 0 < len(kept) < 400


def test_a_log_is_its_owners_alone_and_so_is_the_file_that_follows_it(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a.jsonl", SMALL)
    for _ in range(300):
        file.write("x" * 99 + "\n")
    file.close()
    modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("a.jsonl", "a.jsonl.1", "a.jsonl.2"), 0o600)


def test_a_log_that_cannot_be_written_is_told_once_and_goes_on_when_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "full" / "a.jsonl"
    file = RotatingFile(path, LogSettings())
    for _ in range(3):
        file.write("lost\n")
    assert (
        capsys.readouterr().err == f"noyau: {path} cannot be written: No such file or directory\n"
    )
    path.parent.mkdir()
    file.write("kept\n")
    file.close()
    assert path.read_text() == "kept\n"
    assert capsys.readouterr().err == ""


def test_a_log_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        log_to(tmp_path / "a.jsonl", LogSettings())
