"""Who watches what happens: a bounded buffer for each watcher, which counts what it drops. Pure."""

from __future__ import annotations

from collections import deque

from protocol.messages.supervisor import Events, Happened

BUFFER = 1000
"""Events kept for a watcher that does not read. A download reports 5 a second."""


class Watcher:
    """One subscriber's buffer."""

    def __init__(self, prefix: str, bound: int = BUFFER) -> None:
        self._prefix = prefix
        self._waiting: deque[Happened] = deque(maxlen=bound)
        self._dropped = 0

    def offer(self, event: Happened) -> bool:
        """Take an event that it wants; whether it did. The oldest makes room for it."""
        if not event.what.startswith(self._prefix):
            return False
        if len(self._waiting) == self._waiting.maxlen:
            self._dropped += 1
        self._waiting.append(event)
        return True

    def take(self) -> Events | None:
        """All that waits, and how many were dropped since the last time; None when nothing."""
        if not self._waiting:
            return None
        events = Events(events=list(self._waiting), dropped=self._dropped)
        self._waiting.clear()
        self._dropped = 0
        return events
