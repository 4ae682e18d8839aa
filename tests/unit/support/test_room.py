"""Tests beside each other, and those that are alone."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

from tests.support.room import Room
from tests.support.waiting import until


class Waiting:
    """One process of a test run that wants to go in."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self.room = Room(folder)
        self._thread = threading.Thread(target=lambda: self.room.enter(alone=alone))
        self._thread.start()

    @property
    def is_in(self) -> bool:
        return not self._thread.is_alive()


def test_all_are_beside_each_other_but_for_those_who_want_to_be_alone(tmp_path: Path) -> None:
    one, other = Room(tmp_path), Room(tmp_path)
    one.enter(alone=False)
    other.enter(alone=False)
    alone = Waiting(tmp_path, alone=True)
    one.leave()
    assert not alone.is_in
    other.leave()
    until(lambda: alone.is_in)
    third = Waiting(tmp_path, alone=False)
    assert not third.is_in
    alone.room.leave()
    until(lambda: third.is_in)
    third.room.leave()


def test_nobody_overtakes_who_waits_to_be_alone(tmp_path: Path) -> None:
    inside = Room(tmp_path)
    inside.enter(alone=False)
    alone = Waiting(tmp_path, alone=True)
    until(lambda: _stands_in_the_door(tmp_path))
    late = Waiting(tmp_path, alone=False)
    inside.leave()
    until(lambda: alone.is_in)
    assert not late.is_in
    alone.room.leave()
    until(lambda: late.is_in)
    late.room.leave()


def test_who_was_alone_and_wants_to_be_alone_again_stays(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.enter(alone=True)
    other = Waiting(tmp_path, alone=False)
    room.enter(alone=True)
    assert not other.is_in
    room.enter(alone=False)
    until(lambda: other.is_in)
    other.room.leave()
    room.leave()


def _stands_in_the_door(folder: Path) -> bool:
    door = folder / "door"
    if not door.exists():
        return False
    with door.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
