"""How long a server is waited for. Pure.

Counts only the time that is spent waiting for it: a reader that is slow itself (a busy disk, a
limit on the bandwidth) makes no server slow.
"""

from __future__ import annotations

from typing import Literal


class Patience:
    """With one answer, from the request to its last byte.

    Args:
        stall_timeout_s: seconds of waiting without one more byte of the content. Bytes that are
            none (a head in drops, empty chunks, announcements) do not count.
        minimum_bytes_per_s: less than this over ``window_s`` of waiting is too slow.
    """

    def __init__(self, stall_timeout_s: float, minimum_bytes_per_s: float, window_s: float) -> None:
        self._stall_timeout_s = stall_timeout_s
        self._minimum = minimum_bytes_per_s
        self._window_s = window_s
        self._waited_s = 0.0
        self._since: float | None = None
        """When the present waiting began, if it is one."""
        self._done = 0
        self._moved_s = 0.0
        """Seconds waited when the last byte came."""
        self._mark: tuple[float, int] | None = None
        """Seconds waited and bytes done at the beginning of the window; None before the first."""

    def wait(self, now: float) -> None:
        """From ``now`` on it is waited for the server."""
        self._since = now

    def came(self, count: int, now: float) -> None:
        """``count`` bytes of the content came; until the next `wait` nobody waits for it."""
        self._waited_s = self._so_far(now)
        self._since = None
        if count:
            self._done += count
            self._moved_s = self._waited_s
            self._mark = self._mark or (self._waited_s, self._done)

    def lost(self, now: float) -> Literal["stalled", "slow"] | None:
        """Whether to give the server up, and why."""
        waited_s = self._so_far(now)
        if waited_s - self._moved_s >= self._stall_timeout_s:
            return "stalled"
        if self._mark is None or waited_s - self._mark[0] < self._window_s:
            return None
        began_s, before = self._mark
        if self._done - before < self._minimum * (waited_s - began_s):
            return "slow"
        self._mark = (waited_s, self._done)
        return None

    def _so_far(self, now: float) -> float:
        return self._waited_s + (0.0 if self._since is None else max(0.0, now - self._since))
