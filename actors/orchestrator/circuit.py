"""What a circuit breaker is made of: its states as a table, its policy, permits and figures. Pure.

`breaker.py` decides by them. Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocol.lifecycle import TransitionTable


class BreakerState(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    """All of them."""
    OPEN = "open"
    """None."""
    HALF_OPEN = "half_open"
    """A few, as probes."""


class BreakerEvent(StrEnum):
    """Why the state changes."""

    TRIPPED = "too many failures"
    WAITED = "open long enough"
    PROBE_FAILED = "a probe failed"
    LEASE_OVER = "a probe took too long"
    PROBES_PASSED = "enough probes passed"


_S, _E = BreakerState, BreakerEvent

BREAKER: TransitionTable[BreakerState, BreakerEvent] = TransitionTable(
    "breaker",
    {
        (_S.CLOSED, _E.TRIPPED): _S.OPEN,
        (_S.OPEN, _E.WAITED): _S.HALF_OPEN,
        (_S.HALF_OPEN, _E.PROBE_FAILED): _S.OPEN,
        (_S.HALF_OPEN, _E.LEASE_OVER): _S.OPEN,
        (_S.HALF_OPEN, _E.PROBES_PASSED): _S.CLOSED,
    },
)


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and closes. Every count is at least 1."""

    failures: int = 3
    """Open it; a success takes one off the count."""
    open_s: float = 60
    """How long it stays open before it is probed."""
    permits: int = 2
    """Probes that may be out at once."""
    probe_s: float = 5
    """A probe that has neither ended nor passed by then has failed."""
    successes: int = 2
    """Of probes, close it. A single failure opens it again."""
    slow_call_s: float | None = None
    """A success that took longer counts as a failure; None: none does."""


@dataclass(slots=True, eq=False)
class Permit:
    """The right to one call. For the holder to read and give back; only the breaker writes it."""

    generation: int
    """The breaker's when it was given."""
    taken_at: float
    lease_until: float | None = None
    """When the lease of a probe is over; None for an ordinary call."""
    forced: bool = False
    """It was had past the breaker."""
    passed: bool = False
    """It was a probe, and has passed before its end."""
    released: bool = False
    """It was given back, or its lease ran out."""

    @property
    def probe(self) -> bool:
        """Whether the call is to show if the engine is well again."""
        return self.lease_until is not None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state that happened."""

    before: BreakerState
    after: BreakerState
    at: float
    reason: BreakerEvent
    generation: int
    """The one that it began."""


@dataclass(frozen=True, slots=True)
class BreakerMetrics:
    """What a breaker knows of itself. Totals are since it was made."""

    name: str
    state: BreakerState
    generation: int
    failure_count: int
    """Of those that open it; in CLOSED."""
    success_count: int
    """Of those that close it; in HALF_OPEN."""
    probes_in_flight: int
    open_until: float | None
    """In OPEN."""
    granted: int
    """Permits; each ends as one of the next three, or is still out."""
    successes: int
    failures: int
    ignored: int
    rejections: int
    forced: int
    """Permits that were had past the breaker; among those granted."""
    slow: int
    """Calls that succeeded too late; among the failures."""
    last_failure_at: float | None
    last_success_at: float | None
