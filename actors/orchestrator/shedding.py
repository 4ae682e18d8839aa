"""When overload is so lasting that LOW and NORMAL work is turned away at once. Pure.

::

              N rejections within the window
    closed ────────────────────────────────────► hard open
       ▲                                            │
       └── the queue has drained, or time is over ──┘

Rejections while hard open do not count: clients that keep asking must not keep it open.
"""

from __future__ import annotations

import math
from collections import deque

from actors.orchestrator.admission_terms import AdmissionPolicy, HardClosed, HardOpen

MAX_EVENTS = 100
"""Kept for one who takes them; an overload makes some in a minute."""


class Shedding:
    """Whether the queue is hard open."""

    def __init__(self, policy: AdmissionPolicy) -> None:
        self._policy = policy
        self._rejections: deque[float] = deque(maxlen=policy.hard_open_rejections)
        self.is_open = False
        self.until = math.inf
        """The latest end; infinite while closed."""
        self.drained_at = 0
        """How many may still wait when it ends."""
        self._opened_at = 0.0
        self._shed = 0
        self._events: deque[HardOpen | HardClosed] = deque(maxlen=MAX_EVENTS)

    def rejected(self, now: float, waiting: int, running: int) -> bool:
        """Somebody was told `Overloaded`; True when that opens it."""
        if self.is_open:
            self._shed += 1
            return False
        policy, times = self._policy, self._rejections
        times.append(now)
        if len(times) < policy.hard_open_rejections or now - times[0] > policy.hard_open_window_s:
            return False
        reason = f"{len(times)} rejections within {now - times[0]:.1f} s"
        times.clear()
        self.is_open, self._opened_at, self._shed = True, now, 0
        self.until = now + policy.hard_open_s
        self.drained_at = int(waiting * policy.drain_share)
        self._events.append(HardOpen(now, self.until, reason, waiting, running))
        return True

    def over(self, now: float, waiting: int) -> bool:
        """Whether it was open and is no longer, with so many waiting now."""
        if not self.is_open or (now < self.until and waiting > self.drained_at):
            return False
        drained = waiting <= self.drained_at
        reason = "the queue has drained" if drained else "the longest time is over"
        self.is_open, self.until = False, math.inf
        lasted = now - self._opened_at
        self._events.append(HardClosed(now, reason, waiting, self._shed, lasted))
        return True

    def take_events(self) -> list[HardOpen | HardClosed]:
        """What happened since the last call, oldest first."""
        taken = list(self._events)
        self._events.clear()
        return taken
