"""What an actor gets wrong on purpose, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from actors.kernel.faults import Faults
from configs import load_settings
from configs.incarnation import Incarnation
from protocol.clock import Clock
from protocol.envelope import Kind
from protocol.messages.actor import Disturb
from protocol.ports import Listener

MIB = 2**20
SENT = cast(Listener, None)


class Hours:
    """A clock, and a loop whose timers go off when the test lets time pass."""

    def __init__(self) -> None:
        self.at = 0.0
        self.timers: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []

    def now(self) -> float:
        return self.at

    def call_later(self, delay: float, action: Callable[..., object], *arguments: Any) -> None:
        self.timers.append((self.at + delay, action, arguments))

    def go_on(self, seconds: float) -> None:
        until = self.at + seconds
        while due := [one for one in self.timers if one[0] <= until]:
            first = min(due, key=lambda one: one[0])
            self.timers.remove(first)
            self.at, action, arguments = first
            action(*arguments)
        self.at = until


def faults(hours: Hours, *assignments: str) -> Faults:
    settings = load_settings(assignments=assignments, environ={})
    incarnation = Incarnation(name="storage", epoch="b-1", class_path="x:X", settings=settings)
    found = Faults(incarnation, cast(Clock, hours))
    found._loop = cast(Any, hours)
    return found


def leaked(found: Faults) -> int:
    return sum(len(part) for part in found._ballast)


async def test_memory_that_leaks_without_a_ceiling_is_freed_after_the_time_that_was_told() -> None:
    hours = Hours()
    found = faults(hours)
    told = found.begin(Disturb(fault="leak", mib=20))
    assert (told.replaces, told.noticed_within_s) == (False, None)
    hours.go_on(told.lasts_s - 0.1)
    assert leaked(found) == 20 * MIB
    hours.go_on(0.2)
    assert leaked(found) == 0


async def test_memory_that_leaks_over_a_ceiling_stays_until_the_process_ends() -> None:
    hours = Hours()
    found = faults(hours, "actors.storage.memory_mib=1")
    told = found.begin(Disturb(fault="leak"))
    assert told.replaces
    assert told.noticed_within_s is not None
    hours.go_on(100 * told.noticed_within_s)
    assert leaked(found) > 0
    assert hours.timers == []


async def test_what_is_lost_is_not_the_answer_to_the_order_but_the_first_thing_after_it() -> None:
    hours = Hours()
    found = faults(hours)
    found.begin(Disturb(fault="drop", seconds=0.1))
    assert not found.takes(SENT, b"", Kind.REPLY.value, b"")
    hours.go_on(20.0)
    assert found.takes(SENT, b"", Kind.CHUNK.value, b"")
    hours.go_on(0.2)
    assert not found.takes(SENT, b"", Kind.CHUNK.value, b"")
