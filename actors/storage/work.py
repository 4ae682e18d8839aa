"""Accepted work and its states. Pure.

What is accepted is finished, or ends in one typed error. It is accepted when its row is committed;
an orchestrator that finds rows of a dead one goes on with them or ends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protocol.lifecycle import TransitionTable


class WorkState(StrEnum):
    """Where a piece of work stands."""

    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"


class WorkEvent(StrEnum):
    """What happens to it."""

    TAKEN_UP = "taken up"
    """By another incarnation than the one that had it."""
    DONE = "done"
    FAILED = "failed"


_S, _E = WorkState, WorkEvent

WORK: TransitionTable[WorkState, WorkEvent] = TransitionTable(
    "work",
    {
        (_S.ACCEPTED, _E.TAKEN_UP): _S.ACCEPTED,
        (_S.ACCEPTED, _E.DONE): _S.DONE,
        (_S.ACCEPTED, _E.FAILED): _S.FAILED,
    },
)


@dataclass(frozen=True, slots=True)
class Work:
    """One row. Times are seconds since the Unix epoch."""

    id: str
    kind: str
    state: WorkState
    request: dict[str, Any]
    """What was asked: enough to do it again from the beginning."""
    taken_up: int
    """How many incarnations had it after the first; each of those before died with it in hand."""
    accepted_at: float
    ended_at: float | None = None
    error_code: str = ""
    """Of one that failed."""
