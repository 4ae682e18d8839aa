"""A process that saves is killed at any moment: what it acknowledged is there, and nothing else is
torn or left."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.scripts import run_python, start_python
from tests.support.stored import OWNER, Bench

ROUNDS = 8
NAMES = 5

SAVER = """
import sys
from pathlib import Path
from tests.support.stored import Bench
from tests.unit.actors.storage.stored.test_stored_crashes import content

it = Bench(Path(sys.argv[1]))
first = int(sys.argv[2])
print("ready", flush=True)
for number in range(first, first + 100_000):
    name = f"n{number % 5}"
    if number % 7 == 6:
        it.store.delete("telemetry", name)
        print("deleted", name, number, flush=True)
        continue
    data = content(number)
    if number % 3:
        it.save(name, data)
    else:
        for offset in range(0, len(data), 5000):
            last = offset + 5000 >= len(data)
            it.part(str(number), name, offset, data[offset:offset + 5000], data if last else None)
    print("saved", name, number, flush=True)
"""


def content(number: int) -> bytes:
    """What is saved in step ``number``: its number, and as much as it likes."""
    rest = random.Random(number)
    return b"%d\n" % number + rest.randbytes(rest.randrange(20_000))


def test_whatever_moment_it_is_killed_in_all_that_was_acknowledged_is_there(
    tmp_path: Path,
) -> None:
    folder, moments = tmp_path / "files", random.Random(7)
    told: dict[str, int | None] = {}
    number = 0
    for _ in range(ROUNDS):
        with start_python(SAVER, folder, number) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            some = [process.stdout.readline() for _ in range(moments.randrange(20))]
            # It is somewhere in a later step by now.
            process.kill()
            # Not by `communicate`, which passes over what is buffered behind the lines before.
            rest = process.stdout.read()
        for line in [*some, *rest.splitlines()]:
            what, name, step = line.split()
            told[name] = int(step) if what == "saved" else None
            number = int(step) + 1
        check(folder, told, number)
        number += 1
    assert sum(step is not None for step in told.values()) > 1
    assert number > 3 * ROUNDS


def check(folder: Path, told: dict[str, int | None], unsure: int) -> None:
    """``unsure``: the step that was being done; it may have happened or not."""
    it = Bench(folder)
    try:
        files = {file.name: file for file in it.store.page(OWNER, limit=100)[0]}
        for name in sorted({*told, *files}):
            found = int(it.read(name).partition(b"\n")[0]) if name in files else None
            if found is not None:
                assert it.read(name) == content(found)
            known = told.get(name)
            assert found == known or name == f"n{unsure % NAMES}", (name, found, known, unsure)
            if found != known:
                assert found == unsure or (found is None and unsure % 7 == 6)
            told[name] = found
        assert it.staged() == []
        assert it.events == []
        assert len(it.on_disk()) == len(files)
        sizes = [path.stat().st_size for path in (folder / OWNER).glob("*")]
        assert it.used() == (sum(sizes), len(files), 0)
    finally:
        it.store.close()


# --- every single moment --------------------------------------------------------------------

CALLS = ("open", "write", "fsync", "replace", "rename", "unlink", "close")
"""Of the system, before each of which the process is killed in its turn."""
OLD, NEW = b"old" * 100, b"new" * 200


def upload(it: Bench) -> None:
    it.part("u", "a", 0, NEW[:300])
    it.part("u", "a", 300, NEW[300:], NEW)


def expire(it: Bench) -> None:
    it.times.wall = 2_000_000.0
    it.store.collect()


ACTIONS: dict[str, Callable[[Bench], object]] = {
    "replace": lambda it: it.save("a", NEW),
    "upload": upload,
    "delete": lambda it: it.store.delete(OWNER, "a"),
    "expire": expire,
}
ALLOWED: dict[str, set[bytes | None]] = {
    "replace": {OLD, NEW}, "upload": {OLD, NEW}, "delete": {OLD, None}, "expire": {None},
}  # fmt: skip


def dies_before_call(number: int) -> None:
    """Have this process be killed before the call with this number, from 0."""
    left = number

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def maybe(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*arguments, **more)

        return maybe

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def die_everywhere(folder: Path, action: str) -> int:
    """Do the action until it is through, each time killed one call later; check what each leaves.
    Returns how many moments there were."""
    number = 0
    while True:
        place = folder / str(number)
        it = Bench(place)
        it.save("a", OLD, ttl_s=500_000)
        it.save("b", b"untouched")
        it.store.close()
        child = os.fork()
        if child == 0:
            it = Bench(place)
            it.write = lambda descriptor, data: os.write(descriptor, data)
            dies_before_call(number)
            ACTIONS[action](it)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        check_what_is_left(place, action, over=status == 0)
        if status == 0:
            return number
        assert os.WTERMSIG(status) == signal.SIGKILL
        number += 1


def check_what_is_left(place: Path, action: str, *, over: bool) -> None:
    it = Bench(place)
    if action == "expire":
        it.times.wall = 2_000_000.0
    content = it.read("a") if it.store.find(OWNER, "a") else None
    assert content in ALLOWED[action], content
    if over:
        assert content == {"replace": NEW, "upload": NEW}.get(action)
    it.store.collect()
    assert it.read("b") == b"untouched"
    assert it.staged() == []
    assert len(it.on_disk()) == 1 + (content is not None)
    assert it.used() == (9 + len(content or b""), 1 + (content is not None), 0)
    assert it.events == []
    # Also to whoever comes next.
    it.restart()
    assert (it.read("a") if content is not None else None) == content
    it.store.close()


EVERYWHERE = """
import sys
from pathlib import Path
from tests.unit.actors.storage.stored.test_stored_crashes import ACTIONS, die_everywhere
for action in ACTIONS:
    print(action, die_everywhere(Path(sys.argv[1]) / action, action))
"""


def test_there_is_no_call_of_the_system_before_which_its_death_does_harm(tmp_path: Path) -> None:
    moments = dict(line.split() for line in run_python(EVERYWHERE, tmp_path).splitlines())
    assert moments.keys() == ACTIONS.keys()
    # Opening, writing, syncing, renaming, syncing the folder and removing are some.
    assert int(moments["replace"]) >= 7
    assert int(moments["upload"]) >= 8
    assert int(moments["delete"]) >= 3
