"""Which engine answers, or goes on with an answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    EngineFailed,
    InternalError,
    StreamBroken,
)
from protocol.lifecycle import Health
from protocol.messages.supervisor import DirectoryEntry

LOSSES = (ActorDied, ActorUnavailable, StreamBroken, EngineFailed, InternalError)
"""Ends of an engine's stream after which another engine, or its next incarnation, may go on."""


@dataclass(slots=True)
class Losses:
    """The engines that were lost in the middle of one answer."""

    epochs: set[str] = field(default_factory=set)
    by_name: dict[str, int] = field(default_factory=dict)
    unable: set[str] = field(default_factory=set)
    """Names of those that know no way to go on with it."""

    def add(self, entry: DirectoryEntry) -> None:
        """This incarnation was lost."""
        self.epochs.add(entry.epoch)
        self.by_name[entry.name] = self.by_name.get(entry.name, 0) + 1


def models_of(engine: DirectoryEntry) -> list[str]:
    """The names of the models that it can answer with."""
    return [str(name) for name in engine.info.get("models") or ()]


def lack_of(engine: DirectoryEntry, model: str) -> str:
    """What the engine's model of this name is not, as far as it is known: it is another one in its
    place, or not all of it. Without a name, of its first."""
    name = model or next(iter(models_of(engine)), "")
    return str((engine.info.get("lacks") or {}).get(name, ""))


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that is READY."""

    entry: DirectoryEntry
    permitted: bool = True
    """Whether its circuit breaker lets a call through."""
    running: int = 0
    """Answers that it works on for this orchestrator."""
    has_model: bool = True
    """Whether it has the model that is asked for."""

    @property
    def slots(self) -> int:
        """How many it can work on at once; one until it says."""
        return int(self.entry.info.get("slots", 1))

    @property
    def device(self) -> str:
        """What it computes on."""
        return str(self.entry.info.get("device", ""))

    @property
    def is_well(self) -> bool:
        """Whether it is to be asked as long as another one is there."""
        return self.permitted and self.entry.health is not Health.UNHEALTHY


def choose(ready: Sequence[Candidate], lost: Losses) -> Candidate | None:
    """The engine to ask; None when there is none. ``ready`` stands in the order of preference.

    1. An incarnation that this answer lost, and that still looks READY, goes last.
    2. The engine that it lost least often goes first: the next incarnation of one that died is back
       in no time, and what killed it may be this very answer.
    3. Then one that has the model; else the answer is made with another, and says so.
    4. Then one that its circuit breaker permits and that is not unhealthy. Where all are refused,
       one is asked all the same: a refusal would help nobody.
    5. Then the device of the one that is preferred: a free slot on a slower device is no reason to
       take that.
    6. On that device, one with a free slot.
    """
    devices = list(dict.fromkeys(candidate.device for candidate in ready))
    return min(
        ready,
        key=lambda one: (
            one.entry.epoch in lost.epochs,
            lost.by_name.get(one.entry.name, 0),
            not one.has_model,
            not one.permitted,
            one.entry.health is Health.UNHEALTHY,
            devices.index(one.device),
            one.running >= one.slots,
        ),
        default=None,
    )


def those_at_hand(ready: Sequence[Candidate]) -> list[Candidate]:
    """The engines over which answers are spread now: those on the device of the first that is
    well; where none is, all of them."""
    well = [one for one in ready if one.is_well] or list(ready)
    return [one for one in well if one.device == well[0].device]
