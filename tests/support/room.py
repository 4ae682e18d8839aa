"""Tests that run in several processes beside each other, but for those that want to be alone."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path


class Room:
    """Where the tests of one process go, beside those of others; or alone."""

    def __init__(self, folder: Path) -> None:
        """``folder``: the same in every process."""
        self._folder = folder
        self._inside = contextlib.ExitStack()
        self._alone = False

    def enter(self, *, alone: bool) -> None:
        """Wait until the others are out, or until nobody wants to be alone. Whoever was alone, did
        not leave, and wants to be alone again, is inside.

        Who waits to be alone stands in the door, so that nobody overtakes him for ever.
        """
        if self._alone and alone:
            return
        self.leave()
        with (self._folder / "door").open("w") as door:
            room = self._inside.enter_context((self._folder / "room").open("w"))
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._alone = alone

    def leave(self) -> None:
        """Let the others in."""
        self._inside.close()
        self._alone = False
