"""Lines of logs: read, put in order, followed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from noyau.loglines import LogFiles, LogLine, parse


def line(
    second: int, event: str, actor: str = "storage", level: str = "info", **more: object
) -> str:
    stamp = f"2026-11-24T10:00:{second:02}.123456Z"
    return json.dumps(
        {**more, "event": event, "actor": actor, "level": level, "timestamp": stamp, "pid": 1}
    )


def write(folder: Path, actor: str, *lines: str, end: str = "\n") -> None:
    with (folder / f"{actor}.jsonl").open("a") as file:
        file.write("\n".join(lines) + end)


def events(lines: list[LogLine]) -> list[str]:
    return [one.event for one in lines]


def test_a_line_is_read_and_written_for_people() -> None:
    found = parse(line(7, "engine_lost", level="warning", reason="it was killed", count=3))
    assert found is not None
    assert found.readable() == (
        '10:00:07.123 warning  storage       engine_lost reason="it was killed" count=3'
    )


def test_a_traceback_stands_below_its_line() -> None:
    found = parse(line(7, "crashed", exception="Traceback …\nZeroDivisionError"))
    assert found is not None
    assert found.readable().splitlines()[1:] == ["Traceback …", "ZeroDivisionError"]


def test_what_was_printed_keeps_its_form_and_steers_no_terminal() -> None:
    found = parse(line(7, "    raise\tError \x1b[31m\x07", level="warning", stream="stderr"))
    assert found is not None
    assert found.readable() == (
        "10:00:07.123 warning  storage       stderr |     raise\tError \\x1b[31m\\x07"
    )


@pytest.mark.parametrize("raw", ["", "no json", "[]", '"text"', '{"event": "cut o'])
def test_what_is_no_line_is_none(raw: str) -> None:
    assert parse(raw) is None


def test_lines_of_all_files_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    write(tmp_path, "storage", line(1, "a"), line(4, "d"))
    write(tmp_path, "memory", line(2, "b"), line(3, "c"))
    assert events(LogFiles(tmp_path).latest(10, "info")) == ["a", "b", "c", "d"]
    assert events(LogFiles(tmp_path).latest(2, "info")) == ["c", "d"]
    assert events(LogFiles(tmp_path, ["memory"]).latest(10, "info")) == ["b", "c"]


def test_what_an_actor_prints_is_shown_with_what_it_logs(tmp_path: Path) -> None:
    write(tmp_path, "storage", line(1, "a"), line(3, "c"))
    write(tmp_path, "storage.out", line(2, "b", stream="stdout"))
    write(tmp_path, "storage_2.out", line(4, "d", stream="stdout"))
    files = LogFiles(tmp_path, ["storage"])
    assert files.names() == ["storage", "storage_2"]
    assert events(files.latest(10, "info")) == ["a", "b", "c"]


def test_only_what_is_of_the_level_or_above_it_is_shown(tmp_path: Path) -> None:
    levels = ("debug", "info", "warning", "error", "critical")
    write(tmp_path, "storage", *(line(n, one, level=one) for n, one in enumerate(levels)))
    assert events(LogFiles(tmp_path).latest(10, "warning")) == ["warning", "error", "critical"]


def test_what_is_written_later_is_shown_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    write(tmp_path, "storage", line(1, "old"))
    files = LogFiles(tmp_path)
    files.latest(10, "info")
    assert files.more("info") == []
    write(tmp_path, "storage", line(2, "new"), end="")
    assert files.more("info") == []
    write(tmp_path, "storage", "")
    write(tmp_path, "memory", line(3, "another file"))
    assert events(files.more("info")) == ["new", "another file"]
    assert files.more("info") == []


def test_a_file_that_is_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    write(tmp_path, "storage", *(line(n, "old") for n in range(10)))
    files = LogFiles(tmp_path)
    files.latest(10, "info")
    (tmp_path / "storage.jsonl").write_text("")
    write(tmp_path, "storage", line(20, "new"))
    assert events(files.more("info")) == ["new"]


def test_of_a_long_file_the_end_is_read_alone(tmp_path: Path) -> None:
    write(
        tmp_path, "storage", *(line(n % 60, f"number {n}", ballast="x" * 200) for n in range(3000))
    )
    found = LogFiles(tmp_path).latest(10_000, "info")
    assert 500 < len(found) < 3000


def test_a_folder_that_is_not_there_has_no_logs(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "nowhere")
    assert files.names() == []
    assert files.latest(10, "info") == []
