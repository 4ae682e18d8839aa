"""Work on assets in the command's own process, and Ctrl-C in the middle of it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.storage import publishing
from actors.storage.building import Watch
from actors.storage.guardian import Guardian
from actors.storage.publishing import make_folders, try_lock
from noyau.assets import command
from noyau.assets.doing import Place, do_here
from protocol.errors import Cancelled
from tests.unit.actors.storage.test_storage_updating import NEW, OLD, World

SOON_S = 20.0
"""A wait that nobody could tell from for ever; a test that needs it all fails."""


async def test_work_that_ctrl_c_ends_leaves_no_error_that_nobody_looks_at() -> None:
    left: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context))
    begun = threading.Event()

    def work(watch: Watch) -> None:
        begun.set()
        while True:
            watch.check("the work")

    doing = asyncio.create_task(do_here(work))
    await asyncio.to_thread(begun.wait, SOON_S)
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    del doing
    gc.collect()
    assert left == []


async def test_what_was_done_before_ctrl_c_could_end_it_is_told_as_done() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(_: Watch) -> str:
        begun.set()
        go_on.wait(SOON_S)
        return "done"

    doing = asyncio.create_task(do_here(work))
    await asyncio.to_thread(begun.wait, SOON_S)
    doing.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    assert await doing == "done"


async def test_what_the_work_raises_is_raised() -> None:
    def work(_: Watch) -> None:
        raise Cancelled("by somebody else")

    with pytest.raises(Cancelled, match="somebody else"):
        await do_here(work)


class Shelf:
    """An asset folder with an updated file and one of the user's, and the settings that mean it."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.world.update("1", self.world.file(OLD, version="1"))
        self.world.update("2", self.world.file(NEW, version="2"))
        self.mine = root / "mine.bin"
        self.mine.write_bytes(b"mine")
        self.guardian = Guardian(self.world.store, self.world.catalogue)
        self.place = Place(root / "run", None, [f"run.folder={root}/run"])

    def lists(self) -> list[bytes | None]:
        """What the user's lists say."""
        layout = self.guardian.layout
        return [
            path.read_bytes() if path.exists() else None for path in (layout.pins, layout.local)
        ]


VERBS: dict[str, Callable[[Shelf], Any]] = {
    "pin": lambda it: command._pin(it.place, "tiny", False, False),
    "unpin": lambda it: command._pin(it.place, "tiny", True, False),
    "remove": lambda it: command._remove(it.place, "mine"),
    "add": lambda it: command._add(it.place, it.mine, "other", "", "", False),
    "rollback": lambda it: command._rollback(it.place, "tiny", False),
}


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """As another process that works for as long as this lasts."""
    taken, leave = threading.Event(), threading.Event()

    def hold() -> None:
        make_folders(lock.parent)
        with try_lock(lock):
            taken.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(SOON_S)
    try:
        yield
    finally:
        leave.set()
        holder.join()


@pytest.mark.parametrize(
    ("verb", "lock"),
    [*((verb, "lists") for verb in VERBS), ("rollback", "update")],
)
async def test_ctrl_c_ends_a_verb_that_waits_for_another_process_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, lock: str
) -> None:
    shelf = Shelf(tmp_path)
    shelf.guardian.add(shelf.mine, "mine", "", "", Watch(lambda _: None, lambda: False))
    if verb == "unpin":
        shelf.guardian.pin("tiny")
    before, waits = shelf.lists(), threading.Event()

    async def guardian_of(_: Place) -> Guardian:
        return shelf.guardian

    @contextmanager
    def looked_at(path: Path) -> Iterator[bool]:
        with try_lock(path) as mine:
            if not mine:
                waits.set()
            yield mine

    monkeypatch.setattr(command, "guardian_of", guardian_of)
    monkeypatch.setattr(publishing, "try_lock", looked_at)
    with held(shelf.guardian.layout.locks / lock):
        doing = asyncio.create_task(VERBS[verb](shelf))
        await asyncio.to_thread(waits.wait, SOON_S)
        doing.cancel()
        ended, _ = await asyncio.wait([doing], timeout=SOON_S)
    assert ended
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert shelf.lists() == before
    assert shelf.world.bytes_of() == NEW


async def test_ctrl_c_ends_the_removing_of_what_nobody_needs(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    kept = shelf.world.kept()
    with pytest.raises(Cancelled):
        shelf.guardian.collect(lambda: True)
    assert shelf.world.kept() == kept != []
