"""What the admission queue is told, what it decides, and what can be seen of it. Data alone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct

from protocol.envelope import Priority
from protocol.errors import NoyauError

K = TypeVar("K", bound=Hashable)
"""What a ticket is known by, such as the future that its owner waits for."""


class DropMode(StrEnum):
    """Who goes when the queue is full and one more comes. Never one that is CRITICAL."""

    LOW = "low"
    """Of the lowest class below the newcomer's, whoever joined it last; else the newcomer."""
    OLDEST = "oldest"
    """Of the lowest class not above the newcomer's, whoever joined it first; else the newcomer."""
    ALL = "all"
    """All that wait and are not CRITICAL; where that is nobody, the newcomer."""


class Refusal(StrEnum):
    """Why one is told `Overloaded`."""

    FULL = "full"
    """As many wait as may, and the drop mode names this one."""
    TOO_LATE = "too_late"
    """As fast as things go, it would not be finished by its deadline."""
    SHEDDING = "shedding"
    """The queue is hard open."""

    @property
    def text(self) -> str:
        """For people."""
        return _TEXTS[self]


_TEXTS = {
    Refusal.FULL: "too many queries wait for an engine",
    Refusal.TOO_LATE: "too many queries wait for an engine for this one to end by its deadline",
    Refusal.SHEDDING: "the system is overloaded and takes urgent queries alone",
}


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much may run at once, over all engines."""

    slots: int
    """Tickets at once."""
    tokens: float = math.inf
    """Their costs together; infinite where no engine says how many tokens it holds."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """The numbers of the admission queue; times in seconds, shares without unit."""

    max_waiting: int = 100
    """Tickets that may wait. 100: behind as many, an answer is minutes away on most machines."""
    longest_wait_s: float = 120.0
    """No more may wait than are served within this time as measured, but always one for each slot.
    120: a query's usual deadline; whoever waits longer than that is not waited for any more."""
    drop_mode: DropMode = DropMode.LOW
    """LOW: what was asked for first is kept, unless something more urgent comes."""
    ageing_s: float = 10.0
    """Wait after which a ticket rises by one class, up to HIGH. 10: LOW work takes its turn after
    20 s even where NORMAL work never ends, and a burst of some seconds does not mix the classes."""
    hard_open_rejections: int = 5
    """Rejections within the window that open hard. 5: a burst of two or three is no overload."""
    hard_open_window_s: float = 10.0
    """That window. 10: about as long as an answer takes; rejections further apart than that were
    not for the same reason."""
    hard_open_s: float = 60.0
    """The longest time hard open. 60: as the circuit breaker; a client told to come back in a
    minute does, one told later gives up."""
    drain_share: float = 0.5
    """Part of the waiting at hard open that ends it. 0.5: closing at the edge would open again with
    the next burst, and an empty queue would leave engines idle."""
    rate_weight: float = 0.1
    """Weight of one completion in the measured holding time (EWMA). 0.1: the last twenty or so
    count, so one long answer hardly shows and a slower engine does within a minute."""
    unmeasured_retry_s: float = 1.0
    """Retry-after before anything was measured. 1: an answer of a small model takes as long."""
    min_retry_s: float = 0.1
    """Shortest retry-after. 0.1: sooner, all that were refused would only be refused again."""
    max_retry_s: float = 60.0
    """Longest retry-after. 60: after hard open's longest time, things have changed anyway."""


class Ticket(Struct, Generic[K], eq=False):
    """One who wants to generate. Entered once; ``key`` is its own as long as it is inside."""

    key: K
    priority: int = Priority.NORMAL
    """A `Priority`."""
    client: Hashable = None
    """Whom to be fair to."""
    cost: int = 0
    """Tokens: the prompt and the longest answer."""
    deadline: float | None = None
    """Monotonic seconds."""
    # The rest is the queue's own.
    rank: int = -1
    """The class it stands in, by its priority and its age."""
    since: float = 0.0
    """Since when it waits or, then, runs."""

    def rises_at(self, ageing_s: float) -> float:
        """When it has waited long enough for the class above."""
        return self.since + ageing_s * (self.priority - self.rank + 1)


class Decision(Struct, Generic[K], frozen=True):
    """What to tell whom, now. Whoever entered and is not named waits."""

    ahead: tuple[K, ...] = ()
    """These may go ahead, in this order."""
    dropped: tuple[tuple[K, NoyauError], ...] = ()
    """These may not at all: refused, displaced, or too late, as the error says."""

    def __add__(self, then: Decision[K]) -> Decision[K]:
        return Decision(self.ahead + then.ahead, self.dropped + then.dropped)


@dataclass(frozen=True, slots=True)
class HardOpen:
    """The system is overloaded and takes no LOW and NORMAL work for a while."""

    at: float
    until: float
    """The latest end, in monotonic seconds."""
    reason: str
    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class HardClosed:
    """The overload is over for now."""

    at: float
    reason: str
    waiting: int
    shed: int
    """How many were refused because of it."""
    lasted_s: float


@dataclass(frozen=True, slots=True)
class AdmissionMetrics:
    """What can be seen of the queue. At all times, of what was taken in: entered = finished +
    dropped + abandoned + expired + running + all that wait."""

    waiting: Mapping[Priority, int]
    """By class; a ticket's age may have brought it into a higher one than its own."""
    running: int
    tokens: int
    """In flight: the costs of all that run."""
    capacity: Capacity
    max_waiting: int
    """How many may wait at the measured rate."""
    entered: int
    """Taken in: to run or to wait."""
    admitted: int
    """Went ahead, at once or later."""
    finished: int
    dropped: int
    """Told `Overloaded` after they had waited."""
    abandoned: int
    expired: int
    """Told `DeadlineExceeded` while they waited."""
    refused: Mapping[Refusal, int]
    """Never taken in."""
    rate_per_s: float | None
    """Completions that can be expected per second; None before the first."""
    estimated_wait_s: float
    """Of a LOW newcomer; 0 before anything was measured."""
    hard_open_until: float | None
    """The latest end of being hard open, in monotonic seconds; None while closed."""
