"""How much of a conversation fits into a prompt. Pure.

The newest turns are what an answer depends on, so the oldest go first; what the system said stays,
and so does the order. A prompt never begins with an answer whose question is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Spoken(Protocol):
    """What a turn must have."""

    @property
    def role(self) -> str:
        """``system``, ``user``, ``assistant`` or ``tool``."""
        ...


T = TypeVar("T", bound=Spoken)


@dataclass(frozen=True, slots=True)
class Trimmed(Generic[T]):
    """What stays and what goes, each in the order it was said."""

    kept: list[T]
    dropped: list[T]
    tokens: int
    """Of what is kept."""
    fits: bool
    """Whether that is within the budget. It is not where the system's turns and the newest
    question alone are too long, which are kept nevertheless: the engine then says so."""


class History(Generic[T]):
    """Trims turns to ``budget`` tokens; ``count`` says how many a turn has, its template's
    included."""

    def __init__(self, budget: int, count: Callable[[T], int]) -> None:
        self._budget = budget
        self._count = count

    def trim(self, turns: Sequence[T]) -> Trimmed[T]:
        """Decide in this order:

        1. All turns of the system stay.
        2. Of the others the longest run up to the newest that fits, and at least the newest.
        3. From the front of that run whatever is no turn of the user goes, as its question is
           gone. Where that is all of it, only the system's turns are left.
        """
        costs = [self._count(turn) for turn in turns]
        kept = {i for i, turn in enumerate(turns) if turn.role == "system"}
        tokens = sum(costs[i] for i in kept)
        run: list[int] = []
        for i in reversed([i for i in range(len(turns)) if i not in kept]):
            if run and tokens + costs[i] > self._budget:
                break
            run.insert(0, i)
            tokens += costs[i]
        while run and turns[run[0]].role != "user":
            tokens -= costs[run.pop(0)]
        kept.update(run)
        return Trimmed(
            [turn for i, turn in enumerate(turns) if i in kept],
            [turn for i, turn in enumerate(turns) if i not in kept],
            tokens,
            tokens <= self._budget,
        )
