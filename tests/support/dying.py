"""Runs one act again and again in processes of their own, each killed a little later than the last.

    python -m tests.support.dying ACT FOLDER STRIDE

Each child ends itself with SIGKILL right before its next step on the file system: the opening,
renaming, making or removing of something. After each death ``killed`` is printed, and a line is
awaited, so that whoever reads can look at what was left and put things back. ``done`` is the last
word, once an act came to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from actors.storage.trust.client import TrustedRepository
from actors.storage.trust.keys import KeyFolder
from actors.storage.trust.root_file import RootFile
from actors.storage.trust.signing import Repository
from tests.support.trust import BASE, NEW, Network

STEPS: Final = frozenset(
    {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.link"}
)


def refresh(folder: Path) -> None:
    """What a client does."""
    root = (folder / "first_root").read_bytes()
    network = Network(folder / "published")
    TrustedRepository(folder / "client", BASE, root, network).refresh()


def publisher(folder: Path) -> Repository:
    """With all keys that lie there."""
    return Repository(folder / "published", KeyFolder(folder / "keys"))


def publish(folder: Path) -> None:
    """A new manifest."""
    publisher(folder).publish(NEW)


def begin(folder: Path) -> None:
    """The first publication, and the root beside the keys."""
    repository, root_file = publisher(folder), RootFile(folder / "keys")
    repository.begin()
    repository.publish(NEW)
    root_file.add(repository.roots())


def rotate(folder: Path) -> None:
    """A new online key; the old one signs for the last time if it is there."""
    repository = publisher(folder)
    repository.rotate("online", KeyFolder(folder / "keys").new("online"))


ACTS: Final[dict[str, Callable[[Path], None]]] = {
    "refresh": refresh, "publish": publish, "begin": begin, "rotate": rotate,
}  # fmt: skip


def die_at(step: int) -> None:
    """Be killed right before this step of those to come."""
    left = step

    def watch(event: str, _: tuple[Any, ...]) -> None:
        nonlocal left
        if event in STEPS:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def say(word: str) -> None:
    """To whoever reads."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(act: str, folder: str, stride: str) -> None:
    """See the module."""
    step = 0
    while True:
        child = os.fork()
        if child == 0:
            die_at(step)
            ACTS[act](Path(folder))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            if status == 0:
                say("done")
            sys.exit(0 if status == 0 else f"the act failed: {status}")
        say("killed")
        sys.stdin.readline()
        step += int(stride)


if __name__ == "__main__":
    main(*sys.argv[1:])
