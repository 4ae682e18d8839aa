"""From the threads that generate to the event loop that streams: everything that is there, at once,
and not too often.

::

    slot threads ── post ──► items of each generation ── together, after a pause ──► event loop

Each message wakes three processes on cores that the model wants for itself: answers that are
generated side by side share the waking, and so do the tokens of a model that is faster than
anybody reads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, TypeVar

T = TypeVar("T")

ALONE_S = 0.05
"""Between two deliveries to one reader, while there is something to deliver: 20 a second look like
a flow. The first item after a pause, and what is urgent, is delivered at once."""
SHARED_S = 0.1
"""The same where several read: what comes within a tenth of a second is felt to come at once (R. B.
Miller, Response time in man-computer conversational transactions, 1968). Eight answers at once have
a token each every 50 ms; with two of them in a message they come 2 to 3 % faster altogether."""


class Courier:
    """Delivers to the mailboxes of one event loop. `Mailbox.post` may be called from any thread,
    all else belongs to the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._mailboxes: set[Mailbox[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._on_its_way = False
        """A delivery will come without being asked for."""

    def call(self, *, urgent: bool) -> None:
        """Something was put into a mailbox. From any thread."""
        # Only after the item is there: either this sees that nobody is on the way, or whoever
        # just was, and says so first, sees the item.
        if urgent or not self._on_its_way:
            self._on_its_way = True
            self._loop.call_soon_threadsafe(self._deliver)

    def open(self, mailbox: Mailbox[Any]) -> None:
        """Deliver to it from now on."""
        self._mailboxes.add(mailbox)

    def close(self, mailbox: Mailbox[Any]) -> None:
        """Nobody reads it any more."""
        self._mailboxes.discard(mailbox)

    def _deliver(self) -> None:
        found = [mailbox for mailbox in self._mailboxes if mailbox.deliver()]
        if found and self._timer is None:
            self._on_its_way = True
            pause = ALONE_S if len(found) == 1 else SHARED_S
            self._timer = self._loop.call_later(pause, self._come_again)

    def _come_again(self) -> None:
        self._timer = None
        self._on_its_way = False
        self._deliver()


class Mailbox(Generic[T]):
    """What one thread makes, for one reader on the event loop. Everything arrives, in order."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._posted: deque[T] = deque()
        self._delivered: deque[T] = deque()
        self._news = asyncio.Event()

    def post(self, item: T, *, urgent: bool = False) -> None:
        """Put an item in; from any thread."""
        self._posted.append(item)
        self._courier.call(urgent=urgent)

    def deliver(self) -> bool:
        """Hand over what was posted; returns whether there was anything. By the courier."""
        posted = len(self._posted)
        for _ in range(posted):
            self._delivered.append(self._posted.popleft())
        if posted:
            self._news.set()
        return posted > 0

    async def take(self) -> deque[T]:
        """Wait for what comes next, and take all of it: at least one item."""
        while not self._delivered:
            self._news.clear()
            await self._news.wait()
        return self.take_now()

    def take_now(self) -> deque[T]:
        """Take what has been delivered, which may be nothing."""
        taken, self._delivered = self._delivered, deque()
        return taken
