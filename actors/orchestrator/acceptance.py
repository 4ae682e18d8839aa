"""What is accepted is a committed row in storage, and ends there once, whatever dies.

::

    admitted ─► accept (beside the prefill) ─► first chunk ─► … ─► how it ended

A new incarnation finds the rows of a dead one. Their clients come back within a while and it goes
on with them; it ends those whose clients do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncGenerator

import structlog

from actors.kernel.request import Request
from protocol.caller import Caller
from protocol.errors import ActorUnavailable, Cancelled, InternalError, NoyauError
from protocol.messages.orchestrator import Query
from protocol.messages.storage import AcceptWork, ListOpenWork, SettleWork, WorkItem

STORAGE = "storage"
SETTLE_S = 60.0
"""How long the end of a query is tried to be written: storage is back in milliseconds, or it has
failed. A row that stays open is ended by the next incarnation."""
ABANDONED = "abandoned"

log = structlog.get_logger("orchestrator")


class NotAccepted(Exception):
    """The row could not be committed; ``error`` says why. No `NoyauError` itself: it must not be
    mistaken for the loss of an engine."""

    def __init__(self, error: NoyauError) -> None:
        super().__init__(error.message)
        self.error = error


class Accepted:
    """One query's row."""

    def __init__(self, caller: Caller, query: Query, holder: str) -> None:
        self._caller = caller
        self._query = query
        self._holder = holder
        self._committing: asyncio.Task[WorkItem] | None = None
        self.done = False
        """Set when the answer is complete."""

    def begin(self) -> None:
        """Have the row committed; does not wait for it. Does nothing the second time."""
        if self._committing is not None:
            return
        request = self._query.model_dump(mode="json", exclude={"begun"})
        message = AcceptWork(
            id=self._query.id, kind="query", holder=self._holder, request=request
        )  # fmt: skip
        self._committing = asyncio.create_task(self._caller.ask(STORAGE, message))

    @property
    def begun(self) -> bool:
        """Whether this incarnation asked for the row."""
        return self._committing is not None

    @property
    def may_exist(self) -> bool:
        """Whether there is, or may be, a row: from now, or from an earlier incarnation."""
        return self.begun or self._query.begun is not None

    async def committed(self) -> None:
        """Wait until it is on the disk. Raises `NotAccepted`."""
        if self._committing is None:
            raise NotAccepted(InternalError("the query was not begun to be accepted"))
        try:
            # Shielded: a query that is taken back has a row all the same, which has to end.
            await asyncio.shield(self._committing)
        except NoyauError as error:
            raise NotAccepted(error) from error


class Acceptance:
    """One incarnation's rows in the table of work."""

    def __init__(self, caller: Caller, epoch: str, grace_s: float) -> None:
        """``grace_s``: seconds that clients of a dead incarnation have to come back."""
        self._caller = caller
        self._epoch = epoch
        self._grace_s = grace_s
        self._began_at = time.time()
        self._here: set[str] = set()
        self._settling: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def of(self, query: Query, request: Request) -> AsyncGenerator[Accepted, None]:
        """A query that is here. Leaving writes how it ended, in the background; nothing is written
        when this incarnation stops in the middle of it, as the next one goes on."""
        accepted = Accepted(self._caller, query, self._epoch)
        self._here.add(query.id)
        code: str | None = ""
        try:
            yield accepted
        except NotAccepted as refused:
            code = None
            raise refused.error from None
        except NoyauError as error:
            code = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = "" if accepted.done else _why_cancelled(request)
            raise
        finally:
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
