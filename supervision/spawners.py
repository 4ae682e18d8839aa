"""Sees to it that there is a spawner: one that dies is followed by another, up to a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from configs import RestartSettings
from supervision.forking import StartedProcess
from supervision.restart import Again, Exit, GiveUp, RestartPolicy
from supervision.spawner import Spawner
from supervision.sweeping import sweep

log = structlog.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class SpawnerKeeperEvents:
    """What the owner wants to be told. Every call comes from the event loop."""

    started: Callable[[], None]
    """One was started; it says itself when it is ready."""
    lost: Callable[[], None]
    """It died, and all that it had made dies with it."""
    failed: Callable[[str], None]
    """(reason) It died too often: there will be no other."""


class SpawnerKeeper:
    """Starts spawners, one after the other."""

    def __init__(
        self,
        spawner: Spawner,
        settings: RestartSettings,
        restarts: int,
        now: Callable[[], float],
        kept: Callable[[], Collection[int]],
        events: SpawnerKeeperEvents,
    ) -> None:
        """``restarts``: how many there were before, under earlier supervisors. ``kept``: children
        of this process that are none of the spawner's, and are not swept with it."""
        self._spawner = spawner
        self._policy = RestartPolicy(settings, "permanent")
        self._now = now
        self._kept = kept
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._replacing: asyncio.Task[None] | None = None
        self._closed = False
        self.restarts = restarts
        self.since = now()
        """When the present one was started; monotonic seconds."""

    def start(self, started: StartedProcess | None = None) -> None:
        """Take over a spawner that was started, or start one. Raises OSError."""
        self._spawner.start(started)
        self._events.started()

    def reload(self, settings: RestartSettings) -> None:
        """Decide by these from now on."""
        self._policy.reload(settings, "permanent")

    def on_died(self) -> None:
        """It died: sweep up after it, and start another."""
        if self._closed:
            return
        now = self._now()
        lived = now - self.since
        self.restarts += 1
        self.since = now
        self._events.lost()
        match self._policy.decide(now, Exit(), lived):
            case Again(after_s):
                self._replacing = self._loop.create_task(self._replace(after_s))
            case GiveUp() as verdict:
                self._events.failed(verdict.reason)

    async def _replace(self, after_s: float) -> None:
        left = await sweep(self._kept)
        if left:
            log.warning("descendants_left", pids=left)
        await asyncio.sleep(after_s)
        if self._closed:
            return
        try:
            self.start()
        except OSError as error:
            log.error("spawner_not_started", error=str(error))
            self.on_died()

    def close(self) -> None:
        """Start no other."""
        self._closed = True
