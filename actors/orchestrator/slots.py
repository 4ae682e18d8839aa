"""Who may use the engine now and who waits: first come, first served, bounded. Pure."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from protocol.errors import Overloaded

T = TypeVar("T")


class Slots(Generic[T]):
    """``capacity`` users at once, at most ``max_waiting`` behind them."""

    def __init__(self, capacity: int, max_waiting: int) -> None:
        self.capacity = capacity
        self.max_waiting = max_waiting
        self.using = 0
        self._waiting: deque[T] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, who: T) -> bool:
        """True: go ahead. False: wait until `leave` or `resize` names you.

        Raises `Overloaded` when the queue is full.
        """
        if self.using < self.capacity and not self._waiting:
            self.using += 1
            return True
        if len(self._waiting) >= self.max_waiting:
            raise Overloaded(
                f"{len(self._waiting)} queries wait for an engine already", retry_after_s=1.0
            )
        self._waiting.append(who)
        return False

    def leave(self) -> list[T]:
        """One user is done; returns those who may go ahead now."""
        self.using -= 1
        return self._admit()

    def abandon(self, who: T) -> None:
        """One who waits no longer wants to. Raises ValueError for one who does not wait."""
        self._waiting.remove(who)

    def resize(self, capacity: int) -> list[T]:
        """The engine has more or fewer slots; returns those who may go ahead now."""
        self.capacity = capacity
        return self._admit()

    def _admit(self) -> list[T]:
        admitted = []
        while self._waiting and self.using < self.capacity:
            self.using += 1
            admitted.append(self._waiting.popleft())
        return admitted
