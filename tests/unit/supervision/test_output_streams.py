"""Pipes of processes are read into files of lines, a part at a time."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from actors.kernel.logs import RotatingFile
from configs.sections import LogSettings
from supervision.forkserver import PIPE_BYTES
from supervision.output import READ_BYTES, Outputs
from supervision.printed import LAST_LINES, LINES_AT_ONCE
from tests.support.waiting import eventually


class Printing:
    """A process that prints, as its owner sees it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.outputs = Outputs(
            lambda name: RotatingFile(folder / f"{name}.out.jsonl", LogSettings(**settings))
        )
        reading, self.out = os.pipe()
        error_reading, self.err = os.pipe()
        fcntl.fcntl(self.out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._read_ends = {f"/proc/self/fd/{one}": link(one) for one in (reading, error_reading)}
        self.outputs.take("storage", "boot-1", 7, reading, error_reading)

    def print(self, text: str) -> None:
        os.write(self.out, text.encode())

    def warn(self, text: str) -> None:
        os.write(self.err, text.encode())

    def end(self) -> None:
        """Its process is gone, and nobody has its ends of the pipes."""
        os.close(self.out)
        os.close(self.err)
        self.outputs.died("storage", "boot-1")

    def written(self) -> list[dict[str, Any]]:
        path = self.folder / "storage.out.jsonl"
        return [json.loads(one) for one in path.read_text().splitlines()] if path.exists() else []

    def said(self) -> list[str]:
        return [line["event"] for line in self.written()]

    @property
    def open(self) -> int:
        """How many of its pipes are open here. A number may be another file's by now."""
        ends = self._read_ends.items()
        return sum(os.path.exists(end) and os.readlink(end) == pipe for end, pipe in ends)


def link(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


async def test_a_line_says_what_was_printed_by_whom_and_where(tmp_path: Path) -> None:
    it = Printing(tmp_path)
    it.print("ready\n")
    await eventually(it.written)
    it.warn("low on memory\n")
    await eventually(lambda: len(it.written()) == 2)
    it.end()
    first, second = it.written()
    assert first.pop("timestamp") < second.pop("timestamp")
    who = {"actor": "storage", "epoch": "boot-1", "pid": 7}
    assert first == who | {"event": "ready", "stream": "stdout", "level": "info"}
    assert second == who | {"event": "low on memory", "stream": "stderr", "level": "warning"}
    it.outputs.close()


async def test_a_process_that_prints_nothing_has_no_file(tmp_path: Path) -> None:
    it = Printing(tmp_path)
    it.end()
    await eventually(lambda: not it.open)
    it.outputs.close()
    assert list(tmp_path.iterdir()) == []


async def test_bytes_that_are_no_text_and_what_steers_a_terminal_stay_to_be_seen(
    tmp_path: Path,
) -> None:
    it = Printing(tmp_path)
    os.write(it.out, b"\xff\x1b[31m \x85 red\n")
    it.print("a line\u2028separator\n")
    await eventually(lambda: len(it.written()) == 2)
    assert it.said() == ["\\xff\x1b[31m \\x85 red", "a line\u2028separator"]
    it.end()
    it.outputs.close()


async def test_the_last_words_are_written_and_the_pipes_closed_at_the_end(tmp_path: Path) -> None:
    it = Printing(tmp_path)
    it.warn("terminate called\nand its line has no end")
    it.end()
    await eventually(lambda: not it.open)
    assert it.said() == ["terminate called", "and its line has no end"]
    it.outputs.close()


async def test_what_a_process_left_open_to_others_is_closed_when_it_has_ended(
    tmp_path: Path,
) -> None:
    it = Printing(tmp_path)
    heir = os.dup(it.out)
    it.print("from the dead\n")
    it.end()
    await eventually(lambda: not it.open)
    assert it.said() == ["from the dead"]
    os.close(heir)
    it.outputs.close()


async def test_a_stream_that_is_closed_by_a_living_process_is_closed_here(tmp_path: Path) -> None:
    it = Printing(tmp_path)
    os.close(it.out)
    await eventually(lambda: it.open == 1)
    it.warn("alive\n")
    await eventually(lambda: it.said() == ["alive"])
    it.out = os.dup(it.err)
    it.end()
    await eventually(lambda: not it.open)
    it.outputs.close()


async def test_a_flood_is_cut_counted_and_its_last_words_are_kept(tmp_path: Path) -> None:
    it = Printing(tmp_path)
    os.set_blocking(it.out, False)
    printed = 0
    while printed < 20_000:
        try:
            it.print(f"number {printed}\n")
            printed += 1
        except BlockingIOError:
            await asyncio.sleep(0)
    it.print("why it crashed\n")
    it.end()
    await eventually(lambda: not it.open)
    told = [line["count"] for line in it.written() if line["event"] == "lines_dropped"]
    said = [line for line in it.said() if line != "lines_dropped"]
    assert sum(told) + len(said) == 20_001
    assert LINES_AT_ONCE <= len(said) < 10_000
    assert said[:3] == ["number 0", "number 1", "number 2"]
    assert said[-LAST_LINES:] == [f"number {n}" for n in range(20_001 - LAST_LINES, 20_000)] + [
        "why it crashed"
    ]
    it.outputs.close()


async def test_the_count_of_a_flood_is_written_while_its_process_lives_on_in_silence(
    tmp_path: Path,
) -> None:
    it = Printing(tmp_path)
    it.print("".join(f"{number}\n" for number in range(LINES_AT_ONCE + 2000)))
    await eventually(lambda: "lines_dropped" in it.said())
    await eventually(lambda: it.said()[-1] == str(LINES_AT_ONCE + 1999))
    it.end()
    it.outputs.close()


async def test_much_that_a_dead_process_left_holds_up_the_loop_for_one_part_at_a_time(
    tmp_path: Path,
) -> None:
    it = Printing(tmp_path)
    it.print(("x" * 999 + "\n") * 500)
    it.end()
    turns = 0
    while it.open:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 500_000 / READ_BYTES
    assert it.said() == ["x" * 999] * 500
    it.outputs.close()


async def test_at_the_close_all_that_is_there_is_written(tmp_path: Path) -> None:
    it = Printing(tmp_path)
    it.print("x\n" * 500)
    it.warn("no end")
    it.outputs.close()
    assert it.said() == ["x"] * 500 + ["no end"]
    assert it.open == 0
    os.close(it.out)
    os.close(it.err)


async def test_a_close_waits_for_no_turn_of_the_loop_to_write_the_last_words_of_the_dead(
    tmp_path: Path,
) -> None:
    it = Printing(tmp_path)
    it.print(("x" * 999 + "\n") * 200)
    it.warn("why it crashed")
    it.end()
    it.outputs.close()
    assert sorted(it.said()) == ["why it crashed", *["x" * 999] * 200]
    assert it.open == 0


async def test_the_next_incarnation_writes_behind_the_last_one_and_files_are_put_aside(
    tmp_path: Path,
) -> None:
    it = Printing(tmp_path, max_file_mib=0.02, kept_files=1)
    it.print("".join(f"{number} {'x' * 100}\n" for number in range(400)))
    await eventually(lambda: (tmp_path / "storage.out.jsonl.1").exists())
    it.end()
    await eventually(lambda: not it.open)
    assert it.said()[-1].startswith("399 ")
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == [f"storage.out.jsonl{end}" for end in ("", ".1")]
    assert all(one.stat().st_size <= 0.02 * 2**20 for one in tmp_path.iterdir())
    it.outputs.close()
