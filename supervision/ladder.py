"""The kill ladder: what is done, one rung after the other, to a process that is to end. Pure.

::

    cancel (SIGUSR1)   give up what it is doing, and live: where work is stuck and the loop turns
    term   (SIGTERM)   finish or hand back what it is doing, then end
    kill   (SIGKILL)   the kernel ends it
    gone               it and its descendants are reaped

Each rung has its own time, which its last line in the log tells.
"""

from __future__ import annotations

import signal
from enum import StrEnum


class Rung(StrEnum):
    """One step of it."""

    CANCEL = "cancel"
    TERM = "term"
    KILL = "kill"

    @property
    def signal(self) -> signal.Signals:
        """What is sent."""
        return _SIGNALS[self]


_SIGNALS = {
    Rung.CANCEL: signal.SIGUSR1,
    Rung.TERM: signal.SIGTERM,
    Rung.KILL: signal.SIGKILL,
}


class Ladder:
    """How far one incarnation was brought down. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._climbed: list[tuple[Rung, float]] = []

    def climb(self, rung: Rung, now: float) -> None:
        """This rung is taken now."""
        self._climbed.append((rung, now))

    def begin_anew(self) -> None:
        """It was brought back to its work: what was done to it counts no more."""
        self._climbed.clear()

    def on(self, rung: Rung) -> bool:
        """Whether this rung was taken."""
        return any(taken is rung for taken, _ in self._climbed)

    def since(self, rung: Rung, now: float) -> float | None:
        """Seconds since this rung was taken; None when it was not."""
        times = [at for taken, at in self._climbed if taken is rung]
        return now - times[-1] if times else None

    def times(self, now: float) -> dict[str, float]:
        """Milliseconds from each rung to the next, the last to ``now``: ``{"term_ms": 500.0}``."""
        ends = [*(at for _, at in self._climbed), now][1:]
        return {
            f"{rung}_ms": round((end - at) * 1000, 1)
            for (rung, at), end in zip(self._climbed, ends, strict=True)
        }
