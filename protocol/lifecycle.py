"""The states of an actor's life, as a table that supervisor and actors share.

::

    starting ──► ready | unavailable ──► draining ──► stopped
        │                  │                 │
        └──────────────────┴─────────────────┴──────► dead
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, Literal, TypeVar

from protocol.errors import IllegalTransition


class ActorState(StrEnum):
    """What the directory says of an actor."""

    WAITING = "waiting"
    """Not started yet: what it needs is not ready, or its backoff has not run out."""
    STARTING = "starting"
    """Its process runs; it loads or fetches what it needs to serve."""
    READY = "ready"
    UNAVAILABLE = "unavailable"
    """This machine lacks what it needs to work. Its process waits, and nobody counts on it."""
    DRAINING = "draining"
    """Takes nothing new, finishes what is running."""
    STOPPED = "stopped"
    """Ended because it was told to."""
    FAILED = "failed"
    """Crashed too often; it waits for somebody to start it again."""


Profile = Literal["full", "lite", "micro"]
"""What a machine is taken to be able to do: a GPU and the CPU, the CPU alone, no language model."""

SETTLED = (ActorState.READY, ActorState.UNAVAILABLE)
"""States in which an actor's start has come as far as it can on this machine."""


class Health(StrEnum):
    """How well an actor, or the whole system, does."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class TransitionTable(Generic[State, Event]):
    """A state machine as data: (state, event) leads to state. All others are illegal."""

    def __init__(self, name: str, rows: Mapping[tuple[State, Event], State]) -> None:
        self.name = name
        self.rows = dict(rows)

    def next(self, state: State, event: Event) -> State:
        """The state after ``event``. Raises `IllegalTransition` that names both."""
        try:
            return self.rows[state, event]
        except KeyError:
            raise IllegalTransition(
                f"{self.name}: {event.value!r} is not possible in state {state.value!r}",
                machine=self.name,
                state=state.value,
                event=event.value,
            ) from None

    def allows(self, state: State, event: Event) -> bool:
        """Whether the table has a row for it."""
        return (state, event) in self.rows

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram, for the docs."""
        lines = ["stateDiagram-v2"]
        lines += [f"    {s.value} --> {t.value}: {e.value}" for (s, e), t in self.rows.items()]
        return "\n".join(lines)
