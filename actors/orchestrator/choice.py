"""Which engine answers, or goes on with an answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.lifecycle import Health
from protocol.messages.supervisor import DirectoryEntry


@dataclass(slots=True)
class Losses:
    """The engines that were lost in the middle of one answer."""

    epochs: set[str] = field(default_factory=set)
    by_name: dict[str, int] = field(default_factory=dict)

    def add(self, entry: DirectoryEntry) -> None:
        """This incarnation was lost."""
        self.epochs.add(entry.epoch)
        self.by_name[entry.name] = self.by_name.get(entry.name, 0) + 1


def choose(ready: Sequence[DirectoryEntry], lost: Losses) -> DirectoryEntry | None:
    """The engine to ask; None when there is none.

    ``ready`` stands in the order of preference. The engine that this answer lost least often goes
    first: the next incarnation of one that died is back in no time, and what killed it may be this
    very answer. Then one that is not unhealthy. An incarnation that was lost itself, and still
    looks READY, goes last.
    """
    return min(
        ready,
        key=lambda entry: (
            entry.epoch in lost.epochs,
            lost.by_name.get(entry.name, 0),
            entry.health is Health.UNHEALTHY,
        ),
        default=None,
    )
