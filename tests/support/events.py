"""What a noyau tells those who watch it, for tests with real processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from noyau import Client
from protocol.client import ResumingStream
from protocol.messages.base import Empty
from protocol.messages.supervisor import Events, Happened, WatchEvents


class Told:
    """The events of a noyau, as `noyau events` shows them."""

    def __init__(self, stream: ResumingStream[Events, Empty]) -> None:
        self.stream = stream
        self.events: list[Happened] = []
        self._news = asyncio.Event()

    @property
    def names(self) -> list[str]:
        """What happened, as it came."""
        return [event.what for event in self.events]

    async def follow(self) -> None:
        """Read on until the stream ends."""
        async for batch in self.stream:
            self.events += batch.events
            self._news.set()

    async def until(self, what: str, actor: str = "", seconds: float = 60) -> Happened:
        """The first event of this kind, of this actor if one is named; `TimeoutError` without."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.events:
                    if event.what == what and actor in ("", event.actor):
                        return event
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def watching(client: Client, prefix: str = "") -> AsyncGenerator[Told, None]:
    """All that happens in it and whose name begins so: it is being watched when this begins."""
    async with client.stream(WatchEvents(prefix=prefix), timeout_s=3600) as stream:
        first = await anext(stream)
        assert first.events == []
        told = Told(stream)
        following = asyncio.create_task(told.follow())
        try:
            yield told
        finally:
            following.cancel()
            # Whatever else it ended with is the test's error.
            with contextlib.suppress(asyncio.CancelledError):
                await following
