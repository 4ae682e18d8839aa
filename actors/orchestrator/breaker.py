"""A circuit breaker: whoever fails again and again is left alone for a while, then probed. Pure.

::

    CLOSED ── `failures` ──► OPEN ── `open_s` over ──► HALF_OPEN ── `successes` ──► CLOSED
                              ▲                            │
                              └── a failure, a lease over ─┘

The shell asks for a permit before a call and gives it back with a verdict after it::

    permit = breaker.acquire(now)           # None: refused, ask another engine
    breaker.passed(permit, now)             # when text flows; any number of times
    breaker.release(permit, verdict, now)   # once the call is over; twice does no harm

Nothing depends on when the shell asks, and nothing sticks where it forgets a permit: what time
alone decides (an open breaker's wait, a probe's lease) is caught up with at the next question and
dated to when it was due. Each change of state begins a generation; a result of an earlier one
changes nothing but totals. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque

from actors.orchestrator.circuit import (
    BREAKER,
    BreakerEvent,
    BreakerMetrics,
    BreakerPolicy,
    BreakerState,
    Permit,
    Transition,
)
from actors.orchestrator.verdicts import Verdict

KEPT_TRANSITIONS = 100
"""Transitions that are kept until they are taken; past that the oldest go. A breaker with the
default policy needs at least 50 minutes for so many, and their generations show that some are
missing."""

# Every call looks them up, which in Python 3.11 takes 70 ns for a member of an enum.
_CLOSED, _OPEN, _HALF_OPEN = BreakerState
_SUCCESS, _FAILURE = Verdict.SUCCESS, Verdict.FAILURE


class CircuitBreaker:
    """Decides for one engine, or one of its operations."""

    # In CLOSED, a call costs its permit, the only object made, and a few attributes of a class
    # with slots: no list of permits, no list of times, no clock read.
    __slots__ = (
        "_failed", "_failure_count", "_forced", "_generation", "_granted", "_ignored",
        "_last_failure_at", "_last_success_at", "_open_until", "_policy", "_probes", "_rejected",
        "_slow", "_slow_call_s", "_state", "_succeeded", "_success_count", "_transitions", "name",
    )  # fmt: skip

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.name = name
        self._policy = policy
        self._slow_call_s = policy.slow_call_s
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._failure_count = self._success_count = 0
        self._probes: list[Permit] = []
        """Those out in this generation. All leases are alike, so the first ends first."""
        self._open_until: float | None = None
        self._granted = self._rejected = self._forced = self._slow = 0
        self._succeeded = self._failed = self._ignored = 0
        self._last_failure_at: float | None = None
        self._last_success_at: float | None = None
        self._transitions: deque[Transition] = deque(maxlen=KEPT_TRANSITIONS)

    def acquire(self, now: float) -> Permit | None:
        """A permit for one call; None when it is refused, which is counted."""
        if self._state is _CLOSED:
            self._granted += 1
            return Permit(self._generation, now)
        if self.allows(now):
            return self._grant(now)
        self._rejected += 1
        return None

    def force(self, now: float) -> Permit:
        """A permit in any case, for when there is no other engine: an ordinary one or a probe
        where `acquire` would give it, else one past the breaker. What comes of the latter moves
        no state: the probes alone decide, at their time."""
        if self.allows(now):
            return self._grant(now)
        self._granted += 1
        self._forced += 1
        return Permit(self._generation, now, forced=True)

    def allows(self, now: float) -> bool:
        """Whether `acquire` would give a permit. Takes and counts nothing."""
        if self._state is _CLOSED:
            return True
        self.refresh(now)
        return self._state is _HALF_OPEN and len(self._probes) < self._policy.permits

    def passed(self, permit: Permit, now: float) -> None:
        """The engine does what was asked, though it has not done all of it: text flows.

        A probe has then shown what it had to, however long its answer gets: that counts as a
        success, its lease is over, and another may be had. From now on it is an ordinary call, in
        the generation that it helps to close the breaker for as well: a failure is one, and that
        it ends well is no second success of a probe. Does nothing for any other permit.
        """
        self.refresh(now)
        if permit in self._probes:
            permit.lease_until, permit.passed = None, True
            self._probes.remove(permit)
            self._probe_succeeded(now)

    def release(self, permit: Permit, verdict: Verdict, now: float) -> None:
        """The call is over. A permit counts once, however often it is given back."""
        if self._state is not _CLOSED:
            self.refresh(now)
        if permit.released:
            return
        permit.released = True
        if (
            verdict is _SUCCESS
            and self._slow_call_s is not None
            and now - permit.taken_at > self._slow_call_s
        ):
            self._slow += 1
            verdict = _FAILURE
        self._tally(verdict, now)
        late = permit.generation != self._generation and not self._goes_on_for(permit)
        if late or permit.forced:
            return
        if self._state is _CLOSED:
            if verdict is _FAILURE:
                self._failure_count += 1
                if self._failure_count >= self._policy.failures:
                    self._move(BreakerEvent.TRIPPED, now)
            elif verdict is _SUCCESS and self._failure_count:
                self._failure_count -= 1
        elif self._state is _HALF_OPEN:
            if permit.probe:
                self._probes.remove(permit)
            if verdict is _FAILURE:
                self._move(BreakerEvent.PROBE_FAILED, now)
            elif verdict is _SUCCESS and permit.probe:
                self._probe_succeeded(now)

    def refresh(self, now: float) -> None:
        """Catch up with what was due by ``now``: a lease that is over, the end of being open.
        Every other method that is given ``now`` does so by itself."""
        due = self._first_lease_until()
        if due is not None and now >= due:
            self._probes[0].released = True
            self._tally(_FAILURE, due)
            self._move(BreakerEvent.LEASE_OVER, due)
        if self._open_until is not None and now >= self._open_until:
            self._move(BreakerEvent.WAITED, self._open_until)

    def retry_after_s(self, now: float) -> float:
        """Seconds until it is worth asking again: until it is probed or, when all probes are
        out, until the first of them must have ended. 0 when a permit can be had."""
        if self.allows(now):
            return 0.0
        until = self._first_lease_until() if self._open_until is None else self._open_until
        return 0.0 if until is None else until - now

    def metrics(self, now: float) -> BreakerMetrics:
        """How it stands at ``now``."""
        self.refresh(now)
        return BreakerMetrics(
            name=self.name,
            state=self._state,
            generation=self._generation,
            failure_count=self._failure_count,
            success_count=self._success_count,
            probes_in_flight=len(self._probes),
            open_until=self._open_until,
            granted=self._granted,
            successes=self._succeeded,
            failures=self._failed,
            ignored=self._ignored,
            rejections=self._rejected,
            forced=self._forced,
            slow=self._slow,
            last_failure_at=self._last_failure_at,
            last_success_at=self._last_success_at,
        )

    def take_transitions(self) -> list[Transition]:
        """What happened since the last time, the latest `KEPT_TRANSITIONS` of it."""
        taken = list(self._transitions)
        self._transitions.clear()
        return taken

    def _grant(self, now: float) -> Permit:
        self._granted += 1
        permit = Permit(self._generation, now)
        if self._state is _HALF_OPEN:
            permit.lease_until = now + self._policy.probe_s
            self._probes.append(permit)
        return permit

    def _first_lease_until(self) -> float | None:
        return self._probes[0].lease_until if self._probes else None

    def _goes_on_for(self, permit: Permit) -> bool:
        """Whether it is of a probe that passed in the generation before, and helped to close it
        for this one. Where that ended in OPEN instead, nothing counts anyway."""
        return permit.passed and permit.generation == self._generation - 1

    def _tally(self, verdict: Verdict, at: float) -> None:
        if verdict is _SUCCESS:
            self._succeeded += 1
            self._last_success_at = at
        elif verdict is _FAILURE:
            self._failed += 1
            self._last_failure_at = at
        else:
            self._ignored += 1

    def _probe_succeeded(self, now: float) -> None:
        self._success_count += 1
        if self._success_count >= self._policy.successes:
            self._move(BreakerEvent.PROBES_PASSED, now)

    def _move(self, event: BreakerEvent, at: float) -> None:
        before, self._state = self._state, BREAKER.next(self._state, event)
        self._generation += 1
        self._failure_count = self._success_count = 0
        self._probes.clear()
        self._open_until = at + self._policy.open_s if self._state is _OPEN else None
        self._transitions.append(Transition(before, self._state, at, event, self._generation))
