"""What an actor's counters say of its failures: how many of late, and how many in a row. Pure."""

from __future__ import annotations

from collections import deque

from configs.sections import HealthSettings
from protocol.lifecycle import Health
from protocol.messages.actor import Counters

LEAVING_SHARE = 0.75
"""A rate must fall to this share of a threshold before it is left again: one that lies at it would
else change the health with every call."""


class Failures:
    """Of one incarnation. Times are monotonic seconds."""

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._seen = Counters()
        self._window: deque[tuple[float, int, int]] = deque()
        """When, calls, failures: what was new in a heartbeat."""
        self._in_a_row = 0
        self._failed_at: float | None = None
        self._unanswered: deque[tuple[float, int]] = deque()
        """When, and how many requests: what callers saw."""
        self._level = Health.HEALTHY

    def reload(self, settings: HealthSettings) -> None:
        """Judge by these from now on."""
        self._settings = settings

    def take(self, counters: Counters, now: float) -> None:
        """The counters of a heartbeat, which only ever grow."""
        failed = counters.failed - self._seen.failed
        calls = counters.handled - self._seen.handled + failed
        self._seen = counters
        self._in_a_row = counters.failed_in_a_row
        if failed > 0:
            self._failed_at = now
        if calls > 0:
            self._window.append((now, calls, max(0, failed)))

    def seen_by_callers(self, unanswered: int, now: float) -> None:
        """So many more requests had no end in their time. Who is silent counts nothing itself."""
        if unanswered > 0:
            self._unanswered.append((now, unanswered))

    def judge(self, now: float) -> tuple[Health, str]:
        """The health that follows, and why."""
        health, reason = self._by_callers(now)
        return (health, reason) if reason else self._by_itself(now)

    def _by_callers(self, now: float) -> tuple[Health, str]:
        """What callers saw, where it answered nobody since: a failure that it counts itself is not
        counted twice."""
        while self._unanswered and now - self._unanswered[0][0] > self._settings.window_s:
            self._unanswered.popleft()
        since = self._window[-1][0] if self._window else float("-inf")
        silent = sum(count for at, count in self._unanswered if at > since)
        if silent < self._settings.failures_in_a_row:
            return Health.HEALTHY, ""
        return Health.UNHEALTHY, f"its callers had no answer to their last {silent} requests"

    def _by_itself(self, now: float) -> tuple[Health, str]:
        settings = self._settings
        while self._window and now - self._window[0][0] > settings.window_s:
            self._window.popleft()
        recent = self._failed_at is not None and now - self._failed_at <= settings.window_s
        if recent and self._in_a_row >= settings.failures_in_a_row:
            self._level = Health.UNHEALTHY
            return self._level, f"its last {self._in_a_row} requests all failed"
        calls = sum(calls for _, calls, _ in self._window)
        failed = sum(failed for _, _, failed in self._window)
        self._level = self._level_of(calls, failed)
        if self._level is Health.HEALTHY:
            return self._level, ""
        return self._level, (
            f"{failed} of {calls} requests failed within {settings.window_s:g} s "
            f"({100 * failed / calls:.0f} %)"
        )

    def _level_of(self, calls: int, failed: int) -> Health:
        settings = self._settings
        if not failed or calls < settings.min_calls:
            return Health.HEALTHY
        rate = failed / calls
        bad, poor = settings.unhealthy_error_rate, settings.degraded_error_rate
        if self._level is Health.UNHEALTHY:
            bad *= LEAVING_SHARE
        if self._level is not Health.HEALTHY:
            poor *= LEAVING_SHARE
        if rate > bad:
            return Health.UNHEALTHY
        return Health.DEGRADED if rate >= poor else Health.HEALTHY
