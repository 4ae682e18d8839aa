"""Stored files of a running noyau: a spool over kills, damage that is told, files that expire."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors.kernel.files import Files
from noyau import Client
from protocol.errors import AssetCorrupt, NotFound
from protocol.messages.storage import ListFiles
from protocol.messages.supervisor import Drain, Restart
from tests.support.events import watching
from tests.support.scribe import ALONE, SPOOLED, GetSpooled, Note, Scribble, Spooled, check
from tests.support.system import connect, pid_of, running, running_pid, status_when

PAGE = Path(__file__).parents[2] / "docs" / "files.md"


async def kill_storage(client: Client) -> None:
    before = pid_of(await client.status(), "storage")
    os.kill(before, signal.SIGKILL)
    await status_when(client, lambda s: running_pid(s, "storage") not in (None, before))


async def until_empty(client: Client) -> Spooled:
    """Wait until nothing waits in the scribe's spool."""
    async with asyncio.timeout(30):
        while True:
            found = await client.ask(GetSpooled())
            if not found.waiting:
                return found
            await client.caller.wait_for_news(client.caller.clock.now() + 0.05)


async def names(client: Client, prefix: str) -> list[str]:
    files = Files(client.caller)
    return [item.name async for item in files.list(prefix, owner="scribe")]


async def content_of(client: Client, name: str) -> bytes:
    files = Files(client.caller)
    return b"".join([bytes(piece) async for piece in files.read(name, owner="scribe")])


async def test_a_spool_loses_nothing_while_storage_is_killed_again_and_again() -> None:
    async with running(*ALONE, assets=False) as system, await connect(system) as client:
        for round_ in range(8):
            await client.ask(Note(first=round_ * 40, count=40))
            await kill_storage(client)
        found = await until_empty(client)
        assert (found.overflowed, found.refused) == (0, 0)
        wanted = [f"notes/{number:06}" for number in range(320)]
        assert await names(client, "notes/") == wanted
        for name in wanted[::40]:
            check(name, await content_of(client, name))


async def test_a_spool_whose_storage_stays_away_keeps_the_newest_and_tells_what_it_lost() -> None:
    async with running(*ALONE, assets=False) as system, await connect(system) as client:
        await client.ask(Drain(name="storage"))
        await status_when(client, lambda s: running_pid(s, "storage") is None)
        many = SPOOLED.entries + 100
        await client.ask(Note(first=0, count=many))
        found = await client.ask(GetSpooled())
        assert (found.waiting, found.overflowed) == (SPOOLED.entries, 100)
        await client.ask(Restart(names=["storage"]))
        await until_empty(client)
        kept = await names(client, "notes/")
        assert kept == [f"notes/{number:06}" for number in range(100, many)]
        log = (system.data_folder / "logs" / "scribe.jsonl").read_text()
        assert "files_lost" in log


async def test_a_flipped_bit_is_an_error_for_the_reader_and_an_event_for_all() -> None:
    async with running(*ALONE, assets=False) as system, await connect(system) as client:
        await client.ask(Scribble(name="a", version=1, size=2_000_000))
        check("a", await content_of(client, "a"))
        (path,) = (system.data_folder / "files" / "scribe").iterdir()
        data = bytearray(path.read_bytes())
        data[1_000_000] ^= 4
        path.write_bytes(data)
        async with watching(client, "file.") as told:
            with pytest.raises(AssetCorrupt):
                await content_of(client, "a")
            await told.until("file.quarantined", "storage")
            assert told.names == ["file.quarantined"]
        with pytest.raises(NotFound):
            await content_of(client, "a")
        await client.ask(Scribble(name="a", version=2, size=100))
        assert check("a", await content_of(client, "a")) == 2


async def test_a_file_with_a_time_to_live_is_gone_after_it_also_over_a_kill() -> None:
    async with running(*ALONE, assets=False) as system, await connect(system) as client:
        saved = await client.ask(Scribble(name="a", version=1, size=10, ttl_s=2))
        await client.ask(Scribble(name="b", version=1, size=10))
        assert saved.expires_at is not None
        await kill_storage(client)
        async with asyncio.timeout(20):
            while len((await client.ask(ListFiles(owner="scribe"))).items) > 1:
                await client.caller.wait_for_news(client.caller.clock.now() + 0.1)
        assert await names(client, "") == ["b"]


async def test_the_actor_and_the_program_that_the_docs_show_work(tmp_path: Path) -> None:
    actor, program = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "notes.py").write_text(actor)
    (tmp_path / "ask.py").write_text(
        "from notes import NoteDown\nfrom noyau import SyncClient\n"
        "with SyncClient.connect() as client:\n"
        "    for name in 'ab':\n"
        "        print(client.ask(NoteDown(name=name, text='hello')).names)\n"
        f"{program}        print(content)\n"
    )
    path = f"{tmp_path}:{PAGE.parents[1]}"
    async with running(
        *ALONE, "actors.notes.class=notes:Notes", assets=False, environment={"PYTHONPATH": path}
    ) as system:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, str(tmp_path / "ask.py")],
            env=os.environ | {"PYTHONPATH": path, "NOYAU_RUN__FOLDER": str(system.run_folder)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["['notes/a.txt']", "['notes/a.txt', 'notes/b.txt']"]
    listed = [
        line.split()[0] for line in lines if line.startswith("notes/") and " 5 blake3-" in line
    ]
    assert listed == ["notes/a.txt", "notes/b.txt"]
    assert lines.count("b'hello'") == 2
