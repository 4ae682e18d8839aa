"""Looks at every process at short intervals, and says which hangs and what each has in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from configs import HangSettings
from supervision.hangs import Hung, Watchman
from supervision.incarnations import name_and_epoch
from supervision.looking import Looker


@dataclass(frozen=True, slots=True)
class LookoutEvents:
    """What the owner wants to be told. Every call comes from the event loop."""

    hangs: Callable[[str, str, Hung], None]
    """(name, epoch, how)"""
    has_memory: Callable[[str, str, int], None]
    """(name, epoch, resident bytes)"""
    beats: Callable[[str, str, float], None]
    """(name, epoch, when its event loop last turned)"""
    looked: Callable[[], None]
    """One look is over."""


class Lookout:
    """Looks until it is stopped."""

    def __init__(
        self,
        settings: HangSettings,
        run_folder: Path,
        now: Callable[[], float],
        processes: Callable[[], Iterable[tuple[str, int]]],
        events: LookoutEvents,
    ) -> None:
        """``processes``: key and pid of all that run now."""
        self._settings = settings
        self._now = now
        self._processes = processes
        self._events = events
        self._watchman = Watchman(settings)
        self._looker = Looker(run_folder)
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on."""
        # First: whatever one look meets, the next one comes.
        self._next = self._loop.call_later(self._settings.look_interval_s, self.start)
        seen = self._looker.look(self._processes())
        for key, hung in self._watchman.look(self._now(), seen):
            self._events.hangs(*name_and_epoch(key), hung)
        for key, look, signs in seen:
            name, epoch = name_and_epoch(key)
            if look is not None:
                self._events.has_memory(name, epoch, look.rss_bytes)
            if signs is not None:
                self._events.beats(name, epoch, signs.beat_at)
        self._events.looked()

    def reload(self, settings: HangSettings) -> None:
        """Look and judge by these from now on."""
        self._settings = settings
        self._watchman.reload(settings)

    def stop(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()
        self._looker.close()
