"""Who uses which file, and what their ends say of it. Pure.

    STARTING, with a file ──died──► it may have died of the file: doubt
    READY, with a file    ──────► the file was loaded: proved
    at work with a file   ──died──► doubt

A process says what it has loaded in its entry of the directory, also to a storage that was started
after it; before it is READY, storage knows what it was given. It also says there what it goes on
without, so that it can be started again when that can be had.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from protocol.lifecycle import ActorState
from protocol.messages.supervisor import DirectoryEntry

_SHA256 = re.compile(r"[0-9a-f]{64}")
"""Files of the user's own are known by their path."""
MODEL_IDS = "model_ids"
"""In an entry's info: names of what is loaded, each with what its file is known by."""
MISSED = "missed_assets"
"""In an entry's info: names of the assets that it has a fallback of, or does without."""
MOST_DEAD = 64
"""Remembered after their end, for whoever says later that they were at work."""


@dataclass(slots=True)
class _User:
    name: str
    state: ActorState
    files: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    """Those of them that it could load."""
    missed: frozenset[str] = frozenset()
    """Names of assets."""
    restarted_for: set[str] = field(default_factory=set)
    """Those of them for which it is being started again."""


class Uses:
    """Files by their sha256, users by their epoch."""

    def __init__(self) -> None:
        self._users: dict[str, _User] = {}
        self._dead: deque[str] = deque()

    def given(self, name: str, epoch: str, sha256: str) -> None:
        """A process was told where the file lies."""
        user = self._users.setdefault(epoch, _User(name, ActorState.STARTING))
        user.files.add(sha256)

    def seen(self, entries: Iterable[DirectoryEntry]) -> set[str]:
        """The directory as it is now; returns the files that somebody has newly loaded."""
        loaded = set()
        for entry in entries:
            if not entry.epoch:
                continue
            user = self._users.setdefault(entry.epoch, _User(entry.name, entry.state))
            ids = entry.info.get(MODEL_IDS)
            files = {each for each in ids.values() if _SHA256.fullmatch(each)} if ids else set()
            user.files |= files
            user.missed = frozenset(entry.info.get(MISSED) or ())
            if entry.state is ActorState.READY:
                if not ids and user.state is not ActorState.READY:
                    files = user.files
                loaded |= files - user.loaded
                user.loaded |= files
            user.state = entry.state
        return loaded

    def died(self, epoch: str, *, at_work: bool = False) -> set[str]:
        """A process is gone, or was ``at_work`` when it went; returns the files that are in doubt.

        Whether it was at work is known to others, who may say so before or after its end is seen.
        """
        user = self._users.get(epoch)
        if user is None:
            return set()
        if at_work:
            return set(user.files)
        doubtful = user.files if user.state is ActorState.STARTING else set()
        # What is left is for whoever says later that it was at work.
        user.state = ActorState.STOPPED
        self._dead.append(epoch)
        if len(self._dead) > MOST_DEAD:
            self._users.pop(self._dead.popleft(), None)
        return set(doubtful)

    @property
    def missed(self) -> set[str]:
        """Names of the assets that a living process goes on without."""
        return {name for user in self._living() for name in user.missed}

    def to_restart_for(self, asset: str) -> list[str]:
        """Names of the processes that go on without this asset, which is here now; each process is
        named once."""
        users = [
            user for user in self._living()
            if asset in user.missed and asset not in user.restarted_for
        ]  # fmt: skip
        for user in users:
            user.restarted_for.add(asset)
        return sorted({user.name for user in users})

    def not_restarted_for(self, asset: str) -> None:
        """Those that were named could not be started again."""
        for user in self._living():
            user.restarted_for.discard(asset)

    def users_of(self, sha256: str) -> list[str]:
        """Names of the processes that have the file loaded, or are about to."""
        return sorted({user.name for user in self._living() if sha256 in user.files})

    def _living(self) -> Iterator[_User]:
        return (user for user in self._users.values() if user.state is not ActorState.STOPPED)
