"""The actor that is flooded: each request of `Work` takes its time, and few have their turn at
once."""

from __future__ import annotations

import asyncio

from actors.kernel import Actor, handles
from protocol.messages.base import Ask, Empty, Role

SLOTS = 16
"""Requests that are worked on at a time; all others that it has taken wait."""
WORK_S = 0.005
"""What each takes: 3,200 a second at most."""


class Work(Ask[Empty], operation="slow.work", role=Role.ASK):
    """Wait for your turn, then take your time."""


class Slow(Actor):
    """Works on few requests at a time."""

    async def on_start(self) -> None:
        """Make the slots."""
        self._slots = asyncio.Semaphore(SLOTS)

    @handles(Work)
    async def work(self, message: Work) -> Empty:
        """The work is to wait."""
        del message
        async with self._slots:
            await asyncio.sleep(WORK_S)
        return Empty()
