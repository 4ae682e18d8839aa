"""What an actor gets wrong on purpose, when `noyau chaos` asks for it.

Exists only where the settings allow it (``chaos.allowed``); elsewhere whoever would ask it finds
None, which is all that it costs.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import resource
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import structlog

from actors.kernel.fates import Fates
from actors.kernel.handlers import Handler, Shape
from configs.incarnation import Incarnation
from protocol.clock import Clock
from protocol.errors import ActorDied, ActorUnavailable, Overloaded
from protocol.messages.actor import Disturb, Disturbed
from protocol.ports import Listener, Peer

ANSWERED_S = 0.02
"""What an answer needs to leave this process: a turn of the event loop, and of zmq's thread."""
BEGINS_WITHIN_S = 30.0
"""Requests that are to fail and do not come within this time will not fail any more, and nothing is
lost any more where nothing was sent."""
LEAK_STEP_S = 0.05
LEAK_STEPS = 20
"""Memory grows for a second, as a leak in a busy loop does."""
LEAK_HELD_S = 0.5
OVER_CEILING = 1.25
MIB = 2**20

log = structlog.get_logger("faults")


class Faults:
    """Of one actor. All methods belong to the event loop's thread."""

    def __init__(self, incarnation: Incarnation, clock: Clock) -> None:
        self.exit_delay_s = 0.0
        """For how long an order to end is ignored."""
        self._incarnation = incarnation
        self._clock = clock
        self._fates = Fates()
        self._loop = asyncio.get_running_loop()
        self._line: deque[tuple[float, Listener, Peer, bytes]] = deque()
        self._ballast: list[bytearray] = []
        self._answers_order = False

    def begin(self, order: Disturb) -> Disturbed:
        """Begin as soon as the answer to this is on its way."""
        match order.fault:
            case "spin":
                return self._hang(_spin)
            case "stall":
                return self._hang(_stall)
            case "leak":
                return self._leak(order.mib)
            case "slow_exit":
                self.exit_delay_s = order.seconds
                return self._told(None)
            case "fail":
                self._begin(self._fates.fail, order.requests, self._now() + BEGINS_WITHIN_S)
                return self._told(None)
            case "drop":
                self._begin(self._fates.drop, order.seconds, self._now() + BEGINS_WITHIN_S)
                return self._told(None, lasts_s=order.seconds)
            case "delay":
                self._begin(self._fates.delay, order.delay_s, self._now() + order.seconds)
                return self._told(None, lasts_s=order.seconds + order.delay_s)
            case "none":
                self._fates.end()
                self.exit_delay_s = 0.0
                return self._told(None)

    def _now(self) -> float:
        return self._clock.now()

    def _told(
        self, noticed_within_s: float | None, *, replaces: bool = False, lasts_s: float = 0.0
    ) -> Disturbed:
        return Disturbed(
            epoch=self._incarnation.epoch, replaces=replaces, noticed_within_s=noticed_within_s,
            lasts_s=lasts_s,
        )  # fmt: skip

    def _begin(self, what: Callable[..., None], *arguments: Any) -> None:
        # At once, but for the answer to this very order, which is what is sent next.
        self._answers_order = True
        what(*arguments)

    # --- the process itself ---------------------------------------------------------------

    def _hang(self, how: Callable[[], NoReturn]) -> Disturbed:
        self._loop.call_later(ANSWERED_S, how)
        hang = self._incarnation.settings.hang
        # Idle at best; work that its threads were at when it began counts as stuck.
        return self._told(max(hang.idle_s, hang.stuck_s), replaces=True)

    def _leak(self, mib: int) -> Disturbed:
        ceiling = self._incarnation.settings.actors[self._incarnation.name].memory_mib
        if ceiling is not None:
            has_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            mib = max(1, int(ceiling * OVER_CEILING - has_mib))
        takes_s = LEAK_STEPS * LEAK_STEP_S + LEAK_HELD_S
        self._grow(mib * MIB // LEAK_STEPS, LEAK_STEPS, frees=ceiling is None)
        if ceiling is None:
            return self._told(None, lasts_s=takes_s)
        return self._told(takes_s, replaces=True)

    def _grow(self, step_bytes: int, steps: int, *, frees: bool) -> None:
        if not steps:
            # Above a ceiling it is kept until the process ends, however late that is seen.
            if frees:
                self._loop.call_later(LEAK_HELD_S, self._ballast.clear)
            return
        # Not of zeros, whose pages the kernel would not hand out before they are written to.
        self._ballast.append(bytearray(b"\xff") * step_bytes)
        again = functools.partial(self._grow, step_bytes, steps - 1, frees=frees)
        self._loop.call_later(LEAK_STEP_S, again)

    # --- requests and answers -------------------------------------------------------------

    def instead_of(self, handler: Handler) -> Handler:
        """The handler that takes this request: its own, or one that fails."""
        if handler.always or not self._fates.fails(self._now()):
            return handler
        return replace(handler, shape=Shape.PLAIN, takes_request=False, call=self._fail)

    def _fail(self, message: object) -> NoReturn:
        name = self._incarnation.name
        raise ActorUnavailable(f"{name} failed this request, as it was told to", name=name)

    def takes(self, listener: Listener, peer: Peer, kind: int, frame: bytes) -> bool:
        """Whether this frame is not to be sent now: it is lost, or is sent from here later."""
        if self._answers_order:
            self._answers_order = False
            return False
        now = self._now()
        due = self._fates.due(kind, now)
        if due is None:
            return True
        if due <= now and not self._line:
            return False
        self._line.append((due, listener, peer, frame))
        if len(self._line) == 1:
            self._loop.call_later(due - now, self._send_late)
        return True

    def _send_late(self) -> None:
        while self._line and self._line[0][0] <= self._now():
            _, listener, peer, frame = self._line.popleft()
            try:
                listener.send(peer, frame)
            except (ActorDied, Overloaded) as error:
                # As with what is sent in time: a peer that is gone needs it no more.
                log.warning("late_message_not_sent", code=error.code)
        if self._line:
            self._loop.call_later(self._line[0][0] - self._now(), self._send_late)


def _spin() -> NoReturn:
    """Hold the interpreter, as an endless loop does."""
    while True:
        pass


def _stall() -> NoReturn:
    """Hold the interpreter in a native call, as a library that waits for ever does: no other
    thread of Python's gets on."""
    libc = ctypes.PyDLL(None)
    while True:
        # It returns for a signal that is handled, such as SIGTERM.
        libc.pause()
