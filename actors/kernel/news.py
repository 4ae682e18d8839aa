"""Which heartbeats say something new. Pure.

That its event loop turns, an actor shows on its page of signs; a heartbeat that says nothing else
need not be sent each time.
"""

from __future__ import annotations

from protocol.messages.supervisor import Heartbeat

QUIET_BEATS = 19
"""Beats in a row that need not be sent, as nothing changed: at the default interval a message comes
at least every five seconds. Taking one costs the supervisor a wake-up, some 100 us."""
LATE_MS = 50.0
"""An event loop that was late by less says nothing of the actor."""


class News:
    """What was said last, and how often nothing was said since."""

    def __init__(self) -> None:
        self._said: Heartbeat | None = None
        self._quiet = 0

    def wants(self, heartbeat: Heartbeat) -> bool:
        """Whether this one is to be sent; it then counts as said."""
        if self._quiet < QUIET_BEATS and self._is_old(heartbeat):
            self._quiet += 1
            return False
        self._said, self._quiet = heartbeat, 0
        return True

    def _is_old(self, heartbeat: Heartbeat) -> bool:
        if self._said is None:
            return False
        was, now = self._said.counters, heartbeat.counters
        if max(was.loop_lag_ms, now.loop_lag_ms) > LATE_MS:
            return False
        calm = now.model_copy(update={"loop_lag_ms": was.loop_lag_ms})
        return self._said == heartbeat.model_copy(update={"counters": calm})
