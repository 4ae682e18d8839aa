"""Those who watch over the protocol: the directory and its changes, and everything that happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from protocol.messages.base import Empty
from protocol.messages.supervisor import DirectoryChange, DirectoryEntry, Events, Happened
from supervision.hub import Watcher


class Watchers:
    """Tells each watcher what it has not been told yet; none of them holds up another."""

    def __init__(self, entry: Callable[[str], DirectoryEntry]) -> None:
        """``entry`` gives an actor's present entry."""
        self._entry = entry
        self._of_events: dict[Watcher, asyncio.Event] = {}
        self._of_directory: dict[asyncio.Event, set[str]] = {}

    def changed(self, name: str) -> None:
        """The directory has something new of this actor."""
        for news, names in self._of_directory.items():
            names.add(name)
            news.set()

    def happened(self, event: Happened) -> None:
        """Something happened."""
        for watcher, news in self._of_events.items():
            if watcher.offer(event):
                news.set()

    async def directory(
        self, names: Iterable[str]
    ) -> AsyncGenerator[DirectoryChange | Empty, None]:
        """The whole directory, then every change; what changed twice meanwhile is told once."""
        news, changed = asyncio.Event(), set(names)
        self._of_directory[news] = changed
        try:
            while True:
                entries = [self._entry(name) for name in sorted(changed)]
                changed.clear()
                news.clear()
                yield DirectoryChange(entries=entries)
                await news.wait()
        finally:
            del self._of_directory[news]

    async def events(self, prefix: str) -> AsyncGenerator[Events | Empty, None]:
        """Everything that happens from now on and whose name begins with ``prefix``, in batches,
        after an empty one at once."""
        watcher, news = Watcher(prefix), asyncio.Event()
        self._of_events[watcher] = news
        try:
            yield Events(events=[])
            while True:
                await news.wait()
                news.clear()
                events = watcher.take()
                if events is not None:
                    yield events
        finally:
            del self._of_events[watcher]
