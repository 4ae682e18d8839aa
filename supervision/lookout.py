"""Looks at every process at short intervals, and says which hangs and what each has in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from configs import HangSettings
from supervision.hangs import Hung, Watchman
from supervision.incarnations import name_and_epoch
from supervision.looking import Looker
from supervision.looks import Eye, Stops


@dataclass(frozen=True, slots=True)
class LookoutEvents:
    """What the owner wants to be told. Every call comes from the event loop."""

    hangs: Callable[[str, str, Hung], None]
    """(name, epoch, how)"""
    has_memory: Callable[[str, str, int], None]
    """(name, epoch, resident bytes)"""
    beats: Callable[[str, str, float], None]
    """(name, epoch, when its event loop last turned)"""
    stopped: Callable[[str], None]
    """(name) of a process that is no actor: a signal has stopped it"""
    held_up: Callable[[str, float], None]
    """(name, seconds) of such a process too: since the last look it wanted to get on, and could
    not, as it was starved or waited for a disk"""
    looked: Callable[[], None]
    """One look is over."""


@dataclass(slots=True)
class _Other:
    """A process that is no actor."""

    pid: int
    eye: Eye
    stops: Stops
    looked_at: float
    """When it was looked at last; monotonic seconds."""
    cpu_s: float
    """What it had used then."""


class Lookout:
    """Looks until it is stopped."""

    def __init__(
        self,
        settings: HangSettings,
        run_folder: Path,
        now: Callable[[], float],
        processes: Callable[[], Iterable[tuple[str, int]]],
        others: Callable[[], Iterable[tuple[str, int]]],
        events: LookoutEvents,
    ) -> None:
        """``processes``: key and pid of all actors that run now; ``others``: name and pid of those
        that are no actors, which have no page of signs."""
        self._settings = settings
        self._now = now
        self._processes = processes
        self._others = others
        self._other: dict[str, _Other] = {}
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
        self._look_at_others()
        self._events.looked()

    def suspect(self, key: str) -> None:
        """Somebody who asked this actor gave it up, as it did not get on."""
        self._watchman.suspect(key, self._now())

    def reload(self, settings: HangSettings) -> None:
        """Look and judge by these from now on."""
        self._settings = settings
        self._watchman.reload(settings)

    def _look_at_others(self) -> None:
        there = dict(self._others())
        for name, other in list(self._other.items()):
            if there.get(name) != other.pid:
                self._other.pop(name).eye.close()
        for name, pid in there.items():
            # It may end at any moment; the kernel tells of that in another way.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if name not in self._other:
                    eye = Eye(pid)
                    self._other[name] = _Other(pid, eye, Stops(), self._now(), eye.look().cpu_s)
                self._look_at(name, self._other[name])

    def _look_at(self, name: str, other: _Other) -> None:
        look, now = other.eye.look(), self._now()
        since, used_s = now - other.looked_at, look.cpu_s - other.cpu_s
        other.looked_at, other.cpu_s = now, look.cpu_s
        if other.stops.look(look.state):
            self._events.stopped(name)
        elif since > 0 and look.excuses(used_s, since):
            self._events.held_up(name, since)

    def stop(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()
        self._looker.close()
        for other in self._other.values():
            other.eye.close()
        self._other.clear()
