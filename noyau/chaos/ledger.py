"""An account of every request, kept by those who sent them and by nobody else. Pure.

A request is open from when it is sent until its answer or its typed error; one that is still open
when the books are closed is unaccounted for. What a person wants is a *task*: a request, and the
same again where its error says that this can help.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Entry:
    """One request. Times are monotonic seconds."""

    number: int
    client: int
    operation: str
    stream: bool
    at: float
    ended_at: float | None = None
    code: str = ""
    """Of the error it ended with; empty for an answer."""
    oddity: str = ""
    """What happened to it that may not happen: silence after its deadline, a wrong answer."""


@dataclass(slots=True)
class Task:
    """What a client wanted."""

    client: int
    answered: bool = False
    code: str = ""
    """Of the error of its last request, where it was given up."""


@dataclass(slots=True)
class Ledger:
    """All requests and tasks, in the order in which they were begun."""

    entries: list[Entry] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    def sent(self, client: int, operation: str, now: float, *, stream: bool = False) -> Entry:
        """A request is about to be sent."""
        entry = Entry(len(self.entries), client, operation, stream, now)
        self.entries.append(entry)
        return entry

    def answered(self, entry: Entry, now: float) -> None:
        """Its answer is there, whole. Raises ValueError for one that has ended already."""
        self._end(entry, now)

    def failed(self, entry: Entry, code: str, now: float) -> None:
        """It ended in this typed error. Raises ValueError for one that has ended already."""
        self._end(entry, now)
        entry.code = code

    def odd(self, entry: Entry, what: str) -> None:
        """Something happened that may not happen. It stays open: it is not accounted for."""
        entry.oddity = what

    def _end(self, entry: Entry, now: float) -> None:
        if entry.ended_at is not None:
            raise ValueError(f"request {entry.number} ended twice")
        entry.ended_at = now

    def begin(self, client: int) -> Task:
        """A client wants something."""
        task = Task(client)
        self.tasks.append(task)
        return task

    def count(self) -> Account:
        """The books as they are now."""
        ended = [entry for entry in self.entries if entry.ended_at is not None]
        errors = Counter(entry.code for entry in ended if entry.code)
        open_ = [entry for entry in self.entries if entry.ended_at is None]
        # Neither a task that the run's end cut short nor one refused under load was a promise.
        counted = [task for task in self.tasks if task.answered or task.code not in NOT_COUNTED]
        return Account(
            sent=len(self.entries),
            answered=sum(not entry.code for entry in ended),
            errors=dict(errors),
            unaccounted=len(open_),
            streams_without_end=sum(entry.stream for entry in open_),
            tasks=len(counted),
            tasks_answered=sum(task.answered for task in counted),
            oddities=[f"{entry.operation}: {entry.oddity}" for entry in open_ if entry.oddity],
        )


NOT_COUNTED = ("", "overloaded", "cancelled")


@dataclass(frozen=True, slots=True)
class Account:
    """What the books say."""

    sent: int
    answered: int
    errors: dict[str, int]
    """Requests that ended in a typed error, by its code."""
    unaccounted: int
    streams_without_end: int
    tasks: int
    """Those that were seen to an end, but for those that were refused under load."""
    tasks_answered: int
    oddities: list[str]

    @property
    def typed_errors(self) -> int:
        """All of them."""
        return sum(self.errors.values())

    @property
    def answered_share(self) -> float:
        """Of the tasks; 1 where there was none."""
        return self.tasks_answered / self.tasks if self.tasks else 1.0
