"""Blocking work in a thread, and what is told of it in the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from actors.storage.building import Watch
from actors.storage.sources import Progress

Result = TypeVar("Result")


class Working(Generic[Result]):
    """One piece of work: a thread at one end, the event loop at the other. Left early, it ends."""

    def __init__(self, work: Callable[[Watch], Result]) -> None:
        self._work = work
        self._cancelled = threading.Event()
        self._latest: Progress | None = None

    async def run(self, threads: Executor) -> AsyncIterator[Progress | Result]:
        """The newest progress, again and again, and last what the work returned. Raises what it
        raises. Only the newest counts: a slow reader skips the rest."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def report(progress: Progress) -> None:
            self._latest = progress
            loop.call_soon_threadsafe(news.set)

        watch = Watch(report, self._cancelled.is_set)
        done = loop.run_in_executor(threads, self._work, watch)
        done.add_done_callback(lambda _: news.set())
        try:
            while not done.done():
                await news.wait()
                news.clear()
                latest, self._latest = self._latest, None
                if latest is not None:
                    yield latest
            yield done.result()
        finally:
            self._cancelled.set()
