"""``noyau files`` on a running noyau."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.test_command import noyau
from tests.support.scribe import ALONE, Scribble, content
from tests.support.system import System, connect, running


async def files(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(noyau, "files", *arguments, run_folder=system.run_folder)


def read_bytes(system: System, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """With stdout as it is."""
    environment = os.environ | {"NOYAU_RUN__FOLDER": str(system.run_folder)}
    return subprocess.run(
        [sys.executable, "-m", "noyau", "files", "read", *arguments],
        env=environment, capture_output=True, timeout=90, check=False,
    )  # fmt: skip


async def test_files_are_listed_read_and_deleted_by_a_person(tmp_path: Path) -> None:
    async with running(*ALONE, assets=False) as system, await connect(system) as client:
        empty = await files(system, "list")
        assert "Nobody keeps any files yet." in empty.stdout
        await client.ask(Scribble(name="a/1.bin", version=1, size=2_000_000))
        await client.ask(Scribble(name="a/2.bin", version=1, size=10, ttl_s=3600))
        await client.ask(Scribble(name="b", version=1, size=10))

        owners = json.loads((await files(system, "list", "--json")).stdout)["items"]
        assert [(one["owner"], one["files"]) for one in owners] == [("scribe", 3)]
        assert "scribe" in (await files(system, "list")).stdout
        listed = await files(system, "list", "scribe", "--prefix", "a/", "--json")
        items = json.loads(listed.stdout)["items"]
        assert [item["name"] for item in items] == ["a/1.bin", "a/2.bin"]
        assert items[1]["expires_at"] is not None
        table = await files(system, "list", "scribe", "-n", "1")
        assert "a/1.bin" in table.stdout
        assert "There are more" in table.stderr

        wanted = content("a/1.bin", 1, 2_000_000)
        assert (await asyncio.to_thread(read_bytes, system, "scribe", "a/1.bin")).stdout == wanted
        # On a line longer than a terminal's, which a file or a pipe gets in one piece.
        output = tmp_path / " ".join(["a name of many words"] * 11)
        done = await files(system, "read", "scribe", "a/1.bin", "-o", str(output))
        assert done.returncode == 0, done.stderr
        assert output.read_bytes() == wanted
        again = await files(system, "read", "scribe", "b", "-o", str(output))
        assert again.returncode == 1
        assert f"{output}: File exists\n" in again.stderr
        assert output.read_bytes() == wanted

        gone = await files(system, "delete", "scribe", "b", "c", "--yes")
        assert gone.returncode == 0
        assert "1 of them were not there" in gone.stderr
        none = await files(system, "delete", "scribe", "b", "--yes", "--json")
        assert (none.returncode, json.loads(none.stdout)) == (1, {"deleted": 0})


async def test_content_that_cannot_be_written_out_is_said_in_words_and_by_the_exit_code() -> None:
    def read(name: str, to: str) -> subprocess.CompletedProcess[str]:
        command = f'exec "$0" -m noyau files read scribe {name} {to}'
        return subprocess.run(
            ["/bin/sh", "-c", command, sys.executable],
            env=os.environ | {"NOYAU_RUN__FOLDER": str(system.run_folder)},
            stderr=subprocess.PIPE, text=True, timeout=90, check=False,
        )  # fmt: skip

    async with running(*ALONE, assets=False) as system, await connect(system) as client:
        await client.ask(Scribble(name="a", version=1, size=2_000_000))
        await client.ask(Scribble(name="b", version=1, size=10))
        for name in ("a", "b"):
            full = await asyncio.to_thread(read, name, "> /dev/full")
            assert full.stderr == "noyau: the output cannot be written: No space left on device\n"
            closed = await asyncio.to_thread(read, name, ">&-")
            assert closed.stderr.startswith("noyau: there is no standard output")
            assert "--output" in closed.stderr
            assert (full.returncode, closed.returncode) == (1, 1)


async def test_a_name_that_is_none_deletes_nothing_of_what_stands_before_it() -> None:
    async with running(*ALONE, assets=False) as system, await connect(system) as client:
        await client.ask(Scribble(name="a", version=1, size=10))
        await client.ask(Scribble(name="b", version=1, size=10))
        done = await files(system, "delete", "scribe", "a", "BAD NAME", "b", "--yes")
        assert done.returncode == 1
        assert "'BAD NAME' is no name of a file" in done.stderr
        assert "nothing was deleted" in done.stderr
        listed = json.loads((await files(system, "list", "scribe", "--json")).stdout)["items"]
        assert [item["name"] for item in listed] == ["a", "b"]


async def test_what_cannot_be_had_is_told_and_leaves_no_output(tmp_path: Path) -> None:
    async with running(*ALONE, assets=False) as system, await connect(system) as client:
        await client.ask(Scribble(name="a", version=1, size=2_000_000))
        (path,) = (system.data_folder / "files" / "scribe").iterdir()
        with path.open("r+b") as file:
            file.seek(1_900_000)
            file.write(b"flipped")
        output = tmp_path / "out"
        broken = await files(system, "read", "scribe", "a", "-o", str(output))
        assert broken.returncode == 1
        assert "is not what was saved" in broken.stderr
        assert "are not to be used" in broken.stderr
        assert not output.exists()
        for words in (("read", "scribe", "a"), ("read", "scribe", "../a"), ("list", "No Owner")):
            done = await files(system, *words)
            assert done.returncode == 1, words
            assert done.stdout == ""
            assert "Traceback" not in done.stderr
