"""Storage is killed again and again while files are saved, replaced and read: what was acknowledged
is there and right, nothing torn is ever seen, and the quota is counted right."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from dataclasses import dataclass, field

from actors.kernel.files import Files
from noyau import Client, NoyauError
from protocol.errors import AssetCorrupt, ProtocolError
from protocol.messages.storage import FileUsage, ListFiles
from tests.support.scribe import ALONE, Scribble, check
from tests.support.system import System, connect, pid_of, running, running_pid, status_when, until

KILLS = 30
WRITERS = 3
NAMES = 3
MOST_BYTES = 3_000_000


@dataclass
class Book:
    """What was said of each file."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    """The last version that was."""
    unsure: dict[str, set[int]] = field(default_factory=dict)
    """Versions whose save ended in an error: they may be there."""
    saved: int = 0
    read: int = 0
    errors: list[NoyauError] = field(default_factory=list)


async def save_on(stop: asyncio.Event, client: Client, writer: int, book: Book) -> None:
    """Replace files of its own, one after the other."""
    chance, version = random.Random(writer), 0
    while not stop.is_set():
        version += 1
        name = f"w{writer}/{chance.randrange(NAMES)}"
        # Half of them come in one message, half in several.
        size = chance.choice([chance.randrange(50_000), chance.randrange(MOST_BYTES)])
        try:
            await client.ask(Scribble(name=name, version=version, size=size), timeout_s=30)
        except NoyauError as error:
            book.errors.append(error)
            book.unsure.setdefault(name, set()).add(version)
        else:
            book.acknowledged[name] = version
            book.saved += 1


async def read_on(stop: asyncio.Event, client: Client, book: Book) -> None:
    """Read whatever there is: each time it is one version, whole."""
    files = Files(client.caller)
    while not stop.is_set():
        try:
            listed = await client.ask(ListFiles(owner="scribe"))
            for item in listed.items:
                found = b"".join([bytes(p) async for p in files.read(item.name, owner="scribe")])
                check(item.name, found)
                book.read += 1
        except (AssetCorrupt, ProtocolError):
            raise
        except NoyauError:
            # It was away, or the file was replaced between two halves of a reading.
            continue


async def test_no_kill_of_storage_loses_tears_or_miscounts_a_file() -> None:
    chance, book, stop = random.Random(5), Book(), asyncio.Event()
    async with running(*ALONE, assets=False) as system, await connect(system) as watcher:
        clients = [await connect(system) for _ in range(WRITERS + 1)]
        load = [
            asyncio.create_task(save_on(stop, client, number, book))
            for number, client in enumerate(clients[:-1])
        ]
        load.append(asyncio.create_task(read_on(stop, clients[-1], book)))
        for _ in range(KILLS):
            await kill_after(chance.randrange(1, 5), chance.random() * 0.03, watcher, book)
        stop.set()
        await asyncio.gather(*load)
        await check_all(system, watcher, book)
        for client in clients:
            await client.close()
    assert book.saved > KILLS
    assert book.read > KILLS
    assert len(book.errors) < book.saved / 2, book.errors


async def kill_after(saves: int, moment_s: float, client: Client, book: Book) -> None:
    """SIGKILL, some moment after so many more were saved; returns when it runs again."""
    wanted = book.saved + saves
    await until(lambda: book.saved >= wanted)
    await asyncio.sleep(moment_s)
    before = pid_of(await client.status(), "storage")
    os.kill(before, signal.SIGKILL)
    await status_when(client, lambda s: running_pid(s, "storage") not in (None, before))


async def check_all(system: System, client: Client, book: Book) -> None:
    files, sizes = Files(client.caller), []
    listed = (await client.ask(ListFiles(owner="scribe", limit=1000))).items
    assert {item.name for item in listed} >= book.acknowledged.keys()
    for item in listed:
        found = b"".join([bytes(p) async for p in files.read(item.name, owner="scribe")])
        version = check(item.name, found)
        unsure = book.unsure.get(item.name, set())
        assert version == book.acknowledged.get(item.name) or version in unsure
        assert len(found) == item.size
        sizes.append(item.size)
    (usage,) = (await client.ask(FileUsage(owner="scribe"))).items
    assert (usage.files, usage.used_bytes) == (len(sizes), sum(sizes))
    assert (usage.reserved_bytes, usage.open_uploads) == (0, 0)
    folder = system.data_folder / "files"
    on_disk = list((folder / "scribe").iterdir())
    assert sorted(path.stat().st_size for path in on_disk) == sorted(sizes)
    assert list((folder / ".staging").iterdir()) == []
    assert not (folder / ".quarantine").exists()
