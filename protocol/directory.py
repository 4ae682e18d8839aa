"""Where every actor is, as last told by the supervisor. Pure.

What a process sees for itself (a connection that was cut) counts beside what it was told: an
incarnation whose connection was lost is not called again until the supervisor says something new
of it, or `SUSPICION_S` have passed and nothing did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.errors import ActorUnavailable, NotFound
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import DirectoryEntry

SUSPICION_S = 1.0


@dataclass(frozen=True, slots=True)
class Death:
    """An incarnation that is gone."""

    name: str
    epoch: str
    reason: str


class Directory:
    """Entries by actor name."""

    def __init__(self) -> None:
        self.entries: dict[str, DirectoryEntry] = {}
        self.known = False
        """Whether a snapshot has come since the last `clear`."""
        self._suspects: dict[str, float] = {}

    def apply(self, changed: Iterable[DirectoryEntry]) -> list[Death]:
        """Take a change; returns the incarnations that are gone by it."""
        self.known = True
        deaths = []
        for entry in changed:
            before = self.entries.get(entry.name)
            if before is not None and before.epoch and before.epoch != entry.epoch:
                deaths.append(Death(entry.name, before.epoch, entry.reason))
                self._suspects.pop(before.epoch, None)
            self.entries[entry.name] = entry
        return deaths

    def suspect(self, epoch: str, now: float) -> None:
        """The connection to this incarnation was cut."""
        self._suspects[epoch] = now

    def clear(self) -> list[Death]:
        """The supervisor is gone, and nothing outlives it: every incarnation is dead."""
        deaths = [
            Death(entry.name, entry.epoch, "the supervisor is gone")
            for entry in self.entries.values()
            if entry.epoch
        ]
        self.entries.clear()
        self._suspects.clear()
        self.known = False
        return deaths

    def ready(self, name: str, now: float) -> DirectoryEntry | None:
        """The entry of a READY incarnation, or None when it is worth waiting for one.

        Raises `NotFound` for a name that is not in the configuration, and `ActorUnavailable` for
        an actor that will not come back by itself.
        """
        if not self.known:
            return None
        entry = self.entries.get(name)
        if entry is None:
            known = ", ".join(sorted(self.entries)) or "none"
            raise NotFound(f"there is no actor {name!r}; there are: {known}", name=name)
        if entry.state in (ActorState.FAILED, ActorState.STOPPED, ActorState.UNAVAILABLE):
            why = f": {entry.reason}" if entry.reason else ""
            raise ActorUnavailable(f"{name} is {entry.state.value}{why}", name=name)
        if entry.state is not ActorState.READY:
            return None
        if now - self._suspects.get(entry.epoch, float("-inf")) < SUSPICION_S:
            return None
        return entry
