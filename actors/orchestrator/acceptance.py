"""What is accepted is a committed row in storage, and ends there once, whatever dies.

::

    admitted ─► accept (beside the prefill) ─► first chunk ─► … ─► how it ended
                  ▲                              │
                  └──── engine died: counted ────┘   (a first death: beside the prefill too)

A new incarnation finds the rows of a dead one. Their clients come back within a while and it goes
on with them; it ends those whose clients do not. The row counts the deaths, and a query over which
too many processes died ends as `Poisoned`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncGenerator

import structlog

from actors.kernel.request import Request
from actors.orchestrator.poison import Quarantine, Stay, verdict
from protocol.caller import Caller
from protocol.errors import ActorUnavailable, Cancelled, InternalError, NoyauError, Poisoned
from protocol.messages.orchestrator import Query
from protocol.messages.storage import (
    AcceptWork,
    ListOpenWork,
    ListPoisoned,
    RecordDeath,
    SettleWork,
    WorkItem,
)

STORAGE = "storage"
SETTLE_S = 60.0
"""How long the end of a query is tried to be written: storage is back in milliseconds, or it has
failed. A row that stays open is ended by the next incarnation."""
ABANDONED = "abandoned"
ALL_AT_ONCE_S = 0.005
"""Where all processes die together, the engine first, this one is to be gone before it counts a
death that its next incarnation counts too."""

log = structlog.get_logger("orchestrator")


class NotAccepted(Exception):
    """The row could not be committed; ``error`` says why. No `NoyauError` itself: it must not be
    mistaken for the loss of an engine."""

    def __init__(self, error: NoyauError) -> None:
        super().__init__(error.message)
        self.error = error


class Accepted:
    """One query's row, and whether the query is suspected of making processes die."""

    def __init__(
        self, caller: Caller, query: Query, holder: str, stay: Stay, max_deaths_in_a_row: int
    ) -> None:
        """``stay``: in the quarantine of queries that come back from a dead incarnation."""
        self._caller = caller
        self._query = query
        self._holder = holder
        self._stay = stay
        self._max_deaths_in_a_row = max_deaths_in_a_row
        self._committing: asyncio.Task[WorkItem] | None = None
        self._counting: asyncio.Task[WorkItem | None] | None = None
        """A death that nobody waited for yet."""
        self._in_hand = False
        self.suspect = False
        """Whether a process died over it since it last got on."""
        self.done = False
        """Set when the answer is complete."""

    def begin(self) -> None:
        """Have the row committed; does not wait for it. Does nothing when the query is in hand
        already: from the first call until `died`."""
        if self._in_hand:
            return
        self._in_hand = True
        before = self._query.begun
        message = AcceptWork(
            id=self._query.id, kind="query", holder=self._holder,
            request=self._query.model_dump(mode="json", exclude={"begun"}),
            lost=before.lost if before is not None and before.died else "",
            emitted=len(before.text) if before is not None else 0,
        )  # fmt: skip
        counting, self._counting = self._counting, None
        self._committing = asyncio.create_task(self._accept(message, counting))

    async def _accept(
        self, message: AcceptWork, counting: asyncio.Task[WorkItem | None] | None
    ) -> WorkItem:
        counted = await counting if counting is not None else None
        if counted is not None and verdict(counted) is not None:
            return counted
        return await self._caller.ask(STORAGE, message)

    async def begin_alone(self) -> None:
        """Have the row committed, and wait for it, before anything else is done with the query:
        for one that comes back, or may have been given up. Raises `NotAccepted` and `Poisoned`."""
        if self._query.begun is not None and self._query.begun.died:
            await self._stay.enter()
        self.begin()
        work = await self.committed()
        self.suspect = bool(work.deaths)

    @property
    def begun(self) -> bool:
        """Whether this incarnation asked for the row."""
        return self._committing is not None

    @property
    def may_exist(self) -> bool:
        """Whether there is, or may be, a row: from now, or from an earlier incarnation."""
        return self.begun or self._query.begun is not None

    async def committed(self) -> WorkItem:
        """Wait until it is on the disk. Raises `NotAccepted`, and `Poisoned` when the row says that
        the query was given up."""
        if self._committing is None:
            raise NotAccepted(InternalError("the query was not begun to be accepted"))
        if self._counting is not None:
            counted = await asyncio.shield(self._counting)
            if counted is not None:
                return _unless_poisoned(counted)
        try:
            # Shielded: a query that is taken back has a row all the same, which has to end.
            work = await asyncio.shield(self._committing)
        except NoyauError as error:
            raise NotAccepted(error) from error
        return _unless_poisoned(work)

    async def died(self, process: str, emitted: int) -> None:
        """A process died over it, ``NAME.EPOCH``, with so many characters emitted. Raises
        `NotAccepted`, and `Poisoned` when that was one too many; else it may be tried again, once
        `begin` was called again.

        Nobody waits for the first death to be counted: the next engine reads meanwhile, and nothing
        of what it makes is said before, nor is a further death counted.
        """
        await self.committed()
        waits = self.suspect or self._max_deaths_in_a_row == 1
        self.suspect, self._in_hand = True, False
        message = RecordDeath(id=self._query.id, died=process, emitted=emitted)
        self._counting = asyncio.create_task(self._count(message))
        if waits:
            await self.committed()

    async def _count(self, message: RecordDeath) -> WorkItem | None:
        """The row with this death in it; None where it could not be written."""
        await asyncio.sleep(ALL_AT_ONCE_S)
        try:
            return await self._caller.ask(STORAGE, message)
        except NoyauError as error:
            # It was accepted, so it goes on, up to `query.max_continuations`.
            log.warning("death_not_counted", id=message.id, died=message.died, error=str(error))
            return None

    def got_on(self) -> None:
        """New text was emitted: whatever died before, the query lives."""
        self.suspect = False
        self._stay.leave()


def _unless_poisoned(work: WorkItem) -> WorkItem:
    poisoned = verdict(work)
    if poisoned is not None:
        raise poisoned
    return work


class Acceptance:
    """One incarnation's rows in the table of work."""

    def __init__(
        self, caller: Caller, epoch: str, grace_s: float, max_deaths_in_a_row: int
    ) -> None:
        """``grace_s``: seconds that clients of a dead incarnation have to come back;
        ``max_deaths_in_a_row``: after so many a query is given up."""
        self._caller = caller
        self._epoch = epoch
        self._grace_s = grace_s
        self._max_deaths_in_a_row = max_deaths_in_a_row
        self._began_at = time.time()
        self._here: set[str] = set()
        self._returning = Quarantine()
        self._poisoned: set[str] = set()
        self._listing: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()

    async def _list_poisoned(self) -> None:
        try:
            found = await self._caller.ask(STORAGE, ListPoisoned(kind="query"), timeout_s=SETTLE_S)
        except NoyauError as error:
            # A query that was given up then finds it out when its row is committed.
            log.warning("poisoned_queries_not_listed", error=str(error))
            self._listing = None
        else:
            self._poisoned.update(found.ids)

    async def _may_be_poisoned(self, id_: str) -> bool:
        """Whether it was given up, by this incarnation or an earlier one: those are asked for once,
        so that no query has to wait for its row before an engine reads it."""
        if self._listing is None:
            # In a context of its own: the query's deadline is not that of the list.
            self._listing = asyncio.create_task(
                self._list_poisoned(), context=contextvars.Context()
            )
        if not self._listing.done():
            await asyncio.wait([self._listing])
        return id_ in self._poisoned

    @contextlib.asynccontextmanager
    async def of(self, query: Query, request: Request) -> AsyncGenerator[Accepted, None]:
        """A query that is here. One that comes back is accepted first, as whatever is done with it
        may be what killed the incarnation that had it. Leaving writes how it ended, in the
        background; nothing is written when this incarnation stops in the middle of it, as the next
        one goes on."""
        stay = self._returning.stay()
        accepted = Accepted(self._caller, query, self._epoch, stay, self._max_deaths_in_a_row)
        self._here.add(query.id)
        code: str | None = ""
        try:
            if query.begun is not None or await self._may_be_poisoned(query.id):
                await accepted.begin_alone()
            yield accepted
        except NotAccepted as refused:
            code = None
            raise refused.error from None
        except Poisoned as poisoned:
            code = poisoned.code
            self._poisoned.add(query.id)
            log.warning("query_poisoned", id=query.id, reason=poisoned.message)
            if not accepted.may_exist:
                # Others died over it than an engine, before there was a row: that is to be known
                # when it is asked again.
                accepted.begin()
            raise
        except NoyauError as error:
            code = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = "" if accepted.done else _why_cancelled(request)
            raise
        finally:
            stay.leave()
            if code is None or not accepted.may_exist:
                self._here.discard(query.id)
            else:
                self._settle(query.id, code, accepted)

    def _settle(self, id_: str, code: str, accepted: Accepted | None = None) -> None:
        # In a context of its own: the query's deadline is not that of writing how it ended.
        task = asyncio.create_task(
            self._write_end(id_, code, accepted), context=contextvars.Context()
        )
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _write_end(self, id_: str, code: str, accepted: Accepted | None) -> None:
        try:
            if accepted is not None and accepted.begun:
                await accepted.committed()
            await self._caller.ask(STORAGE, SettleWork(id=id_, error_code=code), timeout_s=SETTLE_S)
        except Poisoned:
            # The row says so already.
            return
        except (NoyauError, NotAccepted) as error:
            log.warning("end_of_query_not_written", id=id_, error=str(error))
        finally:
            self._here.discard(id_)

    async def settled(self, timeout_s: float) -> None:
        """Wait until the ends of all queries are written."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=timeout_s)

    async def end_abandoned(self) -> list[str]:
        """End the queries of dead incarnations whose clients did not come back; returns their ids.

        Waits for the grace first. Nobody is told: there is nobody left to be told.
        """
        await asyncio.sleep(self._grace_s)
        found = await self._caller.ask(STORAGE, ListOpenWork(kind="query"))
        abandoned = [
            work.id
            for work in found.items
            if work.accepted_at < self._began_at and work.id not in self._here
        ]
        for id_ in abandoned:
            self._settle(id_, ABANDONED)
        return abandoned


def _why_cancelled(request: Request) -> str | None:
    """The code of the end that a cancelled query came to; None when it goes on elsewhere."""
    verdict = request.verdict
    if isinstance(verdict, ActorUnavailable):
        return None
    return Cancelled.code if verdict is None else verdict.code
