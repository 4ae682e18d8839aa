"""Storage: the guardian of model files, and the table of accepted work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors.kernel import Surroundings, handles
from actors.storage.assets import AssetKeeper
from actors.storage.ledger import Ledger
from actors.storage.stored.handlers import FileKeeper
from actors.storage.work import DeathBounds, Return, Work, WorkEvent
from protocol.messages.base import Empty
from protocol.messages.storage import (
    AcceptWork,
    ListOpenWork,
    ListPoisoned,
    OpenWork,
    PoisonedWork,
    RecordDeath,
    SettleWork,
    WorkItem,
)

if TYPE_CHECKING:
    from actors.storage.worktable import WorkTable

OPEN_LEDGER_S = 0.5
"""After the start, unless somebody asks for it before."""


class Storage(AssetKeeper, FileKeeper):
    """The guardian of model files, of accepted work and of stored files."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        settings = surroundings.incarnation.settings
        query = settings.query
        self._ledger = Ledger(
            settings.data.folder / "storage.db",
            DeathBounds(query.max_deaths_in_a_row, query.max_continuations),
        )

    async def on_start(self) -> None:
        """Open the table of work; in a thread, and nobody waits for it."""
        await super().on_start()
        # A moment later, so that whoever waits for this start is answered first.
        self._loop.call_later(OPEN_LEDGER_S, self._open_ledger)

    def _open_ledger(self) -> None:
        self._ledger.open().add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Future[WorkTable]) -> None:
        error = opening.exception()
        if error is not None:
            self.log.error("table_of_work", error=str(error))
            self.publish("storage.failed", str(error))

    @handles(AcceptWork)
    async def accept_work(self, message: AcceptWork) -> WorkItem:
        """See `AcceptWork`."""
        returned = Return(message.lost, message.emitted) if message.lost else None
        work = await self._ledger.do(
            lambda table, now: table.accept(
                message.id, message.kind, message.request, message.holder, now, returned
            )
        )
        return _item(work)

    @handles(RecordDeath)
    async def record_death(self, message: RecordDeath) -> WorkItem:
        """See `RecordDeath`."""
        self.died_at_work(message.died)
        work = await self._ledger.do(
            lambda table, now: table.died(message.id, message.died, message.emitted, now)
        )
        return _item(work)

    @handles(ListPoisoned)
    async def list_poisoned(self, message: ListPoisoned) -> PoisonedWork:
        """See `ListPoisoned`."""
        return PoisonedWork(
            ids=await self._ledger.do(lambda table, _: table.poisoned(message.kind))
        )

    @handles(SettleWork)
    async def settle_work(self, message: SettleWork) -> Empty:
        """See `SettleWork`."""
        event = WorkEvent.FAILED if message.error_code else WorkEvent.DONE
        await self._ledger.do(
            lambda table, now: table.settle(message.id, event, now, message.error_code)
        )
        return Empty()

    @handles(ListOpenWork)
    async def list_open_work(self, message: ListOpenWork) -> OpenWork:
        """See `ListOpenWork`."""
        found = await self._ledger.do(lambda table, _: table.open_work(message.kind))
        return OpenWork(items=[_item(work) for work in found])


def _item(work: Work) -> WorkItem:
    return WorkItem(
        id=work.id, state=work.state.value, request=work.request, taken_up=work.taken_up,
        accepted_at=work.accepted_at, error_code=work.error_code,
        deaths=list(work.deaths.in_a_row), deaths_in_all=work.deaths.in_all,
    )  # fmt: skip
