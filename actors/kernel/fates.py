"""What becomes of requests and of what is sent while something is got wrong on purpose. Pure."""

from __future__ import annotations

from protocol.envelope import Kind

_LOSABLE = (Kind.REPLY.value, Kind.CHUNK.value)
"""An end or an error that is lost would be the same as a reply that is; a lost part of a stream is
to be noticed by what comes behind it."""


class Fates:
    """Decides for one actor. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._failing = 0
        self._fail_until = self._drop_until = self._delay_until = float("-inf")
        self._drop_s: float | None = None
        self._delay_s = 0.0
        self._held_until = float("-inf")

    def fail(self, requests: int, until: float) -> None:
        """The next so many requests fail, if they come in time."""
        self._failing, self._fail_until = requests, until

    def drop(self, seconds: float, until: float) -> None:
        """Replies and parts of streams are lost for so long, from the first one on, if that is sent
        in time."""
        self._drop_s, self._drop_until = seconds, until

    def delay(self, delay_s: float, until: float) -> None:
        """What is sent until then comes so much later."""
        self._delay_s, self._delay_until = delay_s, until

    def end(self) -> None:
        """From now on nothing is got wrong. What is held back still comes at its time."""
        self._failing = 0
        self._drop_until = self._delay_until = float("-inf")

    def fails(self, now: float) -> bool:
        """Whether the request that comes now fails; it is one of those then."""
        if not self._failing or now > self._fail_until:
            return False
        self._failing -= 1
        return True

    def due(self, kind: int, now: float) -> float | None:
        """When a message of this kind is to be sent, at ``now`` or later; None when it is lost."""
        if self._loses(kind, now):
            return None
        at = now + self._delay_s if now < self._delay_until else now
        # Late messages keep their order, and nothing overtakes them when the fault is over: a
        # connection may be slow, but it never shuffles.
        self._held_until = max(at, self._held_until)
        return self._held_until

    def _loses(self, kind: int, now: float) -> bool:
        if now >= self._drop_until or kind not in _LOSABLE:
            return False
        if self._drop_s is not None:
            # The first: of one that has nothing to say for a while something is lost too.
            self._drop_until = now + self._drop_s
            self._drop_s = None
        return True
