"""What the decisions ask to be done: the words between `plan.py` and the shell. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Spawn:
    """Ask the spawner for a process."""

    name: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the process of this incarnation."""

    name: str
    epoch: str
    signal: signal.Signals


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the directory's watchers of this actor."""

    name: str


@dataclass(frozen=True, slots=True)
class Forget:
    """This incarnation is gone: remove its socket, let go of its pidfd."""

    name: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Tell:
    """An event for whoever watches, and for the log."""

    what: str
    name: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReplaceSpawner:
    """It does not answer: kill it and start another."""


@dataclass(frozen=True, slots=True)
class AllStopped:
    """Nothing runs any more; the supervisor may end."""


Effect = Spawn | Signal | Publish | Forget | Tell | ReplaceSpawner | AllStopped
