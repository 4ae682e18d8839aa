"""Accepted work, its states, and the deaths it was in hand at. Pure.

What is accepted is finished, or ends in one typed error. It is accepted when its row is committed;
an orchestrator that finds rows of a dead one goes on with them or ends them. Work over which one
process after the other dies is poison to all others' work: it ends after a few.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from protocol.epochs import same_makers
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


POISONED = "poisoned"
"""The code of what ended because of the deaths."""


@dataclass(frozen=True, slots=True)
class DeathBounds:
    """How many deaths one piece of work is tried through."""

    in_a_row: int
    """As many without getting on between them end it."""
    in_all: int
    """More than so many end it, however it gets on."""


@dataclass(frozen=True, slots=True)
class Deaths:
    """The processes that died with one piece of work in hand, each ``NAME.EPOCH``."""

    in_a_row: tuple[str, ...] = ()
    """Since it last got on."""
    emitted: int = 0
    """Characters of its answer at the last of them."""
    in_all: int = 0

    def after(self, died: str, emitted: int) -> Deaths:
        """Another one, with so many characters emitted. Told twice, a death counts once."""
        if died in self.in_a_row:
            return self
        got_on = emitted > self.emitted
        in_a_row = (died,) if got_on else (*self.in_a_row, died)
        return Deaths(in_a_row, max(emitted, self.emitted), self.in_all + 1)

    def too_many(self, bounds: DeathBounds) -> bool:
        """Whether it is to be tried no more."""
        return len(self.in_a_row) >= bounds.in_a_row or self.in_all > bounds.in_all


@dataclass(frozen=True, slots=True)
class Return:
    """Work that comes back because its client says that its holder died."""

    lost: str
    """``NAME.EPOCH``."""
    emitted: int
    """Characters that the client has of the answer."""


@dataclass(frozen=True, slots=True)
class Work:
    """One row. Times are seconds since the Unix epoch."""

    id: str
    kind: str
    state: WorkState
    request: dict[str, Any]
    """What was asked: enough to do it again from the beginning."""
    holder: str
    """The epoch of the incarnation that has it, or had it last."""
    accepted_at: float
    in_hand: bool = True
    """Whether its holder works on it; not while it waits for the process that died over it."""
    taken_up: int = 0
    """How many incarnations had it after the first; each of those before lost it."""
    deaths: Deaths = Deaths()
    ended_at: float | None = None
    error_code: str = ""
    """Of one that failed."""


def accepted_by(
    before: Work | None, new: Work, returned: Return | None, bounds: DeathBounds
) -> Work:
    """The row after ``new.holder`` took the work in hand; ``before`` is the row as it was.

    1. Work that ended stays as it is.
    2. The same holder may ask again: nothing changes but that it has the work in hand.
    3. Work without a row is new. Where its client says that it comes back, its first holder died
       before the row was there.
    4. Another holder takes it up. Where its client says that the one before died, and that one had
       it in hand, this is a death that counts.
    """
    if before is None:
        lost = returned.lost if returned is not None else ""
        work = new
    elif before.state is not WorkState.ACCEPTED:
        return before
    elif before.holder == new.holder:
        return replace(before, in_hand=True)
    else:
        lost = ""
        if returned is not None and before.in_hand:
            lost = f"{returned.lost.partition('.')[0]}.{before.holder}"
        work = replace(before, holder=new.holder, in_hand=True, taken_up=before.taken_up + 1)
    if returned is None or not _died_alone(lost, new.holder):
        return work
    return _after_death(work, lost, returned.emitted, bounds, new.accepted_at)


def died_over(work: Work, died: str, emitted: int, bounds: DeathBounds, now: float) -> Work:
    """The row after a process died that worked on this for its holder; nobody has it in hand then.
    Work that ended stays as it is."""
    if work.state is not WorkState.ACCEPTED:
        return work
    return _after_death(replace(work, in_hand=False), died, emitted, bounds, now)


def _after_death(work: Work, died: str, emitted: int, bounds: DeathBounds, now: float) -> Work:
    work = replace(work, deaths=work.deaths.after(died, emitted))
    if not work.deaths.too_many(bounds):
        return work
    state = WORK.next(work.state, WorkEvent.FAILED)
    return replace(work, state=state, ended_at=now, error_code=POISONED)


def _died_alone(lost: str, holder: str) -> bool:
    """Whether this incarnation is another one than the holder, and died by itself, not with its
    spawner or its supervisor."""
    epoch = lost.partition(".")[2]
    return bool(epoch) and epoch != holder and same_makers(epoch, holder)
