"""Faults that are put into processes on purpose: signals, and a start that is late.

Who watches over them is not told: what follows has to be the same as after a fault that nobody
ordered.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from configs.schema import Settings
from protocol.errors import ActorUnavailable, InvalidRequest, NotFound
from protocol.messages.supervisor import Inject, Injected
from supervision.child import Child
from supervision.incarnations import Incarnations
from supervision.looks import STOPPED_LOOKS
from supervision.silence import AGAIN_S, QUIET_S

GUARD_NOTICES_S = QUIET_S + STOPPED_LOOKS * AGAIN_S
"""A guard looks at a supervisor that has been quiet for a while."""

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Own:
    """One of the processes that are no actors."""

    pid: Callable[[], int | None]
    send: Callable[[signal.Signals], None]


class Injector:
    """Does what `Inject` asks for."""

    def __init__(
        self,
        settings: Settings,
        children: Mapping[str, Child],
        incarnations: Incarnations,
        own: Mapping[str, Own],
    ) -> None:
        """``own``: spawner, supervisor and guard, by name."""
        self._settings = settings
        self._children = children
        self._incarnations = incarnations
        self._own = own

    def inject(self, order: Inject) -> Injected:
        """Do it. Raises `NotAllowed`, `NotFound` listing what there is, `InvalidRequest`, and
        `ActorUnavailable` where no process runs."""
        self._settings.chaos.check()
        name = order.target
        if name in self._children:
            return self._into_actor(order, self._children[name])
        if name not in self._own:
            known = ", ".join([*self._children, *self._own])
            raise NotFound(f"there is no process {name!r}; there are: {known}")
        if order.fault == "slow_start":
            raise InvalidRequest(f"slow_start is for actors; {name} is none")
        return self._into_own(order, self._own[name])

    def _into_actor(self, order: Inject, child: Child) -> Injected:
        if child.pid is None or not child.runs:
            raise ActorUnavailable(
                f"{child.name} has no process: it is {child.public_state.value}", name=child.name
            )
        hang = self._settings.hang
        noticed_within_s: float | None = 0.0
        if order.fault == "slow_start":
            self._incarnations.delay_next(child.name, order.seconds)
            noticed_within_s = None
        else:
            self._incarnations.signal(child.name, child.epoch, SIGNALS[order.fault])
            if order.fault == "stop":
                noticed_within_s = STOPPED_LOOKS * hang.look_interval_s
        return Injected(pid=child.pid, epoch=child.epoch, noticed_within_s=noticed_within_s)

    def _into_own(self, order: Inject, own: Own) -> Injected:
        pid = own.pid()
        if pid is None:
            raise ActorUnavailable(f"there is no {order.target} now")
        own.send(SIGNALS[order.fault])
        noticed_within_s: float | None = 0.0
        if order.fault == "stop":
            looks_s = STOPPED_LOOKS * self._settings.hang.look_interval_s
            noticed_within_s = GUARD_NOTICES_S if order.target == "supervisor" else looks_s
        return Injected(pid=pid, noticed_within_s=noticed_within_s)


def signal_myself_soon(call_later: Callable[[float, Callable[[], None]], object]) -> Own:
    """This process, which gets its signal when the answer is on its way."""

    def send(number: signal.Signals) -> None:
        call_later(ANSWERED_S, lambda: os.kill(os.getpid(), number))

    return Own(os.getpid, send)


ANSWERED_S = 0.02
"""What an answer needs to leave this process: a turn of the event loop, and of zmq's thread."""
