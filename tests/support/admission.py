"""An admission queue that tests speak to in few words."""

from __future__ import annotations

import math
from collections.abc import Hashable

from actors.orchestrator.admission import AdmissionQueue
from actors.orchestrator.admission_terms import (
    AdmissionPolicy,
    Capacity,
    Decision,
    DropMode,
    Ticket,
)
from protocol.envelope import Priority
from protocol.errors import Overloaded

CRITICAL, HIGH, NORMAL, LOW = Priority
NEVER = 1_000_000
"""As a number of rejections: the queue does not open hard."""


class Desk:
    """A queue that is spoken to by name, and the time."""

    def __init__(
        self,
        slots: int = 1,
        tokens: float = math.inf,
        *,
        max_waiting: int = 100,
        drop_mode: DropMode = DropMode.LOW,
        hard_open_rejections: int = NEVER,
    ) -> None:
        policy = AdmissionPolicy(
            max_waiting=max_waiting,
            drop_mode=drop_mode,
            hard_open_rejections=hard_open_rejections,
        )
        self.queue: AdmissionQueue[str] = AdmissionQueue(policy, Capacity(slots, tokens))
        self.now = 0.0

    def enter(
        self,
        key: str,
        priority: Priority = NORMAL,
        *,
        client: Hashable = "somebody",
        cost: int = 1,
        deadline: float | None = None,
    ) -> Decision[str]:
        return self.queue.enter(Ticket(key, priority, client, cost, deadline), self.now)

    def fill(self, keys: str, priority: Priority = NORMAL) -> None:
        for key in keys:
            self.enter(key, priority)

    def leave(self, key: str) -> list[str]:
        return list(self.queue.leave(key, self.now).ahead)

    def order(self, running: str) -> str:
        """Who goes ahead, one after the other, while nobody else comes; `running` is first."""
        keys = [running]
        while after := self.leave(keys[-1]):
            assert len(after) == 1
            keys += after
        return "".join(keys[1:])

    def measured(self, seconds: float) -> None:
        """Have one answer take so long."""
        assert self.enter("measured").ahead
        self.now += seconds
        self.leave("measured")

    def waiting(self) -> int:
        return sum(self.queue.metrics().waiting.values())


def told(decision: Decision[str]) -> dict[str, str]:
    """The codes of the errors, by key."""
    return {key: error.code for key, error in decision.dropped}


def retry_after(decision: Decision[str]) -> float:
    [(_, error)] = decision.dropped
    assert isinstance(error, Overloaded)
    return float(error.details["retry_after_s"])
