"""Queries over which processes die: what ends them, and how those under suspicion are tried.

Whoever is in hand when a process dies may have been the cause, and is a suspect until it gets on.
Suspects are tried one at a time: so the next death over one of them says nothing of the others.
"""

from __future__ import annotations

import asyncio

from protocol.errors import Poisoned
from protocol.messages.storage import WorkItem


def verdict(work: WorkItem) -> Poisoned | None:
    """The error that this work ended with because of the deaths it was in hand at; None for other
    work. It is the same one whenever it is asked for again."""
    if work.error_code != Poisoned.code:
        return None
    names = list(dict.fromkeys(death.partition(".")[0] for death in work.deaths))
    look = f"`noyau logs {' '.join(names)}`" if names else "`noyau logs`"
    return Poisoned(
        f"given up, as {_how_often(work, names)} died over it; ask differently, and see {look}",
        id=work.id, deaths=work.deaths,
    )  # fmt: skip


def _how_often(work: WorkItem, names: list[str]) -> str:
    who = " and ".join(names) or "a process"
    count = len(work.deaths)
    if work.deaths_in_all > count:
        return f"{work.deaths_in_all} processes, last {who},"
    if count < 2:
        return who
    return f"{who}, {count} times in a row,"


class Quarantine:
    """Where suspects are tried: one at a time may be in it, in the order of their coming."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def stay(self) -> Stay:
        """One suspect's stay, which has not begun yet."""
        return Stay(self._lock)


class Stay:
    """A suspect in quarantine, or not."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._inside = False

    async def enter(self) -> None:
        """Wait until nobody else is inside. Does nothing for one that is."""
        if not self._inside:
            await self._lock.acquire()
            self._inside = True

    def leave(self) -> None:
        """Let the next one in. Does nothing for one that is not inside."""
        if self._inside:
            self._inside = False
            self._lock.release()
