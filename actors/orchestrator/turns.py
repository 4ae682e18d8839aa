"""Waiting for one's turn: the admission queue's decisions, carried out.

::

    turn() ─► enter ─┬─► ahead ──────────► … ─► leave ─► next one ahead
                     └─► waits ─► ahead, or a typed error, or taken back
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from actors.orchestrator.admission import AdmissionQueue
from actors.orchestrator.admission_terms import (
    AdmissionMetrics,
    AdmissionPolicy,
    Capacity,
    Decision,
    HardOpen,
    Ticket,
)
from actors.orchestrator.breaking import Publish
from protocol.clock import Clock

Turn = asyncio.Future[None]


class Turns:
    """Whose turn it is with the engines. All methods belong to the event loop's thread."""

    def __init__(self, policy: AdmissionPolicy, clock: Clock, publish: Publish) -> None:
        """``publish``: see `actors.kernel.Actor.publish`."""
        self._clock = clock
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        # One at a time until an engine says how many slots it has.
        self._capacity = Capacity(1)
        self._queue: AdmissionQueue[Turn] = AdmissionQueue(policy, self._capacity)
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def metrics(self) -> AdmissionMetrics:
        """How the queue does."""
        return self._queue.metrics()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(self._queue.metrics().waiting.values())

    def resize(self, capacity: Capacity) -> None:
        """The engines hold more or less now."""
        if capacity != self._capacity:
            self._capacity = capacity
            self._do(self._queue.resize(capacity, self._clock.now()))

    @asynccontextmanager
    async def turn(
        self, *, priority: int, client: object, cost: int, until: float | None
    ) -> AsyncGenerator[None, None]:
        """Wait for a turn, and have it until this is left. Raises `Overloaded` and
        `DeadlineExceeded`.

        ``client``: whom to be fair to, hashable; ``cost``: tokens; ``until``: monotonic seconds,
        None where it is not to be refused for what it may take.
        """
        turn: Turn = self._loop.create_future()
        # No answer holds more than its slot, however long it might become.
        most = self._capacity.tokens / max(1, self._capacity.slots)
        cost = int(min(cost, most))
        ticket = Ticket(turn, priority=priority, client=client, cost=cost, deadline=until)
        self._do(self._queue.enter(ticket, self._clock.now()))
        try:
            await turn
        except asyncio.CancelledError:
            self._do(self._queue.abandon(turn, self._clock.now()))
            if turn.done() and not turn.cancelled():
                # It was refused at the same moment, and nobody else will look at that.
                turn.exception()
            raise
        try:
            yield
        finally:
            self._do(self._queue.leave(turn, self._clock.now()))

    def _do(self, decision: Decision[Turn]) -> None:
        for turn in decision.ahead:
            # One whose owner is being cancelled at this moment leaves by that.
            if not turn.done():
                turn.set_result(None)
        for turn, error in decision.dropped:
            if not turn.done():
                turn.set_exception(error)
        for event in self._queue.take_events():
            if isinstance(event, HardOpen):
                text = f"system overloaded, pausing: {event.reason}"
                self._publish("overload.begun", text, waiting=event.waiting, running=event.running)
            else:
                text = f"the overload is over after {event.lasted_s:.1f} s: {event.reason}"
                self._publish("overload.over", text, waiting=event.waiting, shed=event.shed)
        self._set_alarm()

    def _set_alarm(self) -> None:
        at = self._queue.next_tick
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if at is not None:
            delay = max(0.0, at - self._clock.now())
            self._alarm = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._alarm = None
        self._do(self._queue.tick(self._clock.now()))
