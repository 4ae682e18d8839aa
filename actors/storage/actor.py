"""Storage: hands out files that are on disk and are what they claim to be, fetching what is not.

Its work blocks (hashing, pip, fsync), so it is done in threads; what is told of it comes back to
the event loop, where only the newest progress counts.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from actors.kernel import Actor, Surroundings, handles
from actors.storage.ledger import Ledger
from actors.storage.manifest import load_manifest
from actors.storage.outcomes import LocatedAsset, StoreEvent
from actors.storage.sources import Progress, PypiSource
from actors.storage.store import AssetStore
from actors.storage.work import DeathBounds, Return, Work, WorkEvent
from configs.actor_settings import StorageSettings
from protocol.messages.base import Empty
from protocol.messages.storage import (
    AcceptWork,
    AssetProgress,
    Assets,
    AssetStatus,
    ListAssets,
    ListOpenWork,
    ListPoisoned,
    Located,
    OpenWork,
    PoisonedWork,
    Provide,
    RecordDeath,
    SettleWork,
    WorkItem,
)

if TYPE_CHECKING:
    from actors.storage.worktable import WorkTable

OPEN_LEDGER_S = 0.5
"""After the start, unless somebody asks for it before."""
THREADS = 4
"""Assets provided at the same time; each beyond that waits its turn."""


class Storage(Actor):
    """The guardian of model files."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(StorageSettings)
        self._manifest = load_manifest(self._options.manifest)
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="asset")
        self._store = AssetStore(
            surroundings.incarnation.settings.data.assets_folder,
            self._manifest,
            # The machine's boot, not ours: a proof that a file is whole lasts until then.
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            sources={"pypi": PypiSource(self._options.stall_timeout_s)},
            observe=self._observe,
        )
        settings = surroundings.incarnation.settings
        query = settings.query
        self._ledger = Ledger(
            settings.data.folder / "storage.db",
            DeathBounds(query.max_deaths_in_a_row, query.max_continuations),
        )

    async def on_start(self) -> None:
        """Clear what dead runs left half done, and open the table of work; in threads, and nobody
        waits for it."""
        self._loop.run_in_executor(self._threads, self._store.sweep)
        # A moment later, so that whoever waits for this start is answered first.
        self._loop.call_later(OPEN_LEDGER_S, self._open_ledger)

    def _open_ledger(self) -> None:
        self._ledger.open().add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Future[WorkTable]) -> None:
        error = opening.exception()
        if error is not None:
            self.log.error("table_of_work", error=str(error))
            self.publish("storage.failed", str(error))

    def _observe(self, event: StoreEvent) -> None:
        """Called in a working thread: something that people should know."""
        self._loop.call_soon_threadsafe(self._tell, event)

    def _tell(self, event: StoreEvent) -> None:
        self.log.warning("asset", happened=str(event))
        self.publish(f"asset.{type(event).__name__.lower()}", str(event))

    @handles(ListAssets)
    def list_assets(self, message: ListAssets) -> Assets:
        """The manifest, and what of it is on disk."""
        default = self._manifest.default_model
        return Assets(
            assets=[
                AssetStatus(
                    asset=asset.name, description=asset.description, size=asset.size,
                    present=self._store.present(asset.name), default=asset.name == default,
                )
                for asset in self._manifest.assets
            ]
        )  # fmt: skip

    @handles(Provide)
    async def provide(self, message: Provide) -> AsyncGenerator[AssetProgress | Located, None]:
        """Locate the asset, or install it while telling how far that has come."""
        work = Providing(self._loop)
        done = self._loop.run_in_executor(self._threads, work.run, self._store, message.asset)
        done.add_done_callback(lambda _: work.news.set())
        try:
            while not done.done():
                await work.news.wait()
                progress = work.take()
                if progress is not None:
                    yield self._show(progress)
            located = done.result()
        finally:
            work.cancelled.set()
            self.say("idle")
        yield Located(
            asset=located.name, path=str(located.path), sha256=located.sha256, size=located.size
        )

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

    def _show(self, progress: Progress) -> AssetProgress:
        self.progressed()
        self.say(
            f"{progress.stage} {progress.asset}", progress.done_bytes, progress.total_bytes, "bytes"
        )
        percent = 100 * progress.done_bytes // max(1, progress.total_bytes)
        told = AssetProgress(
            asset=progress.asset, stage=progress.stage,
            done_bytes=progress.done_bytes, total_bytes=progress.total_bytes,
        )  # fmt: skip
        self.publish(
            "asset.progress", f"{progress.stage} {progress.asset}: {percent} %", **told.model_dump()
        )
        return told


def _item(work: Work) -> WorkItem:
    return WorkItem(
        id=work.id, state=work.state.value, request=work.request, taken_up=work.taken_up,
        accepted_at=work.accepted_at, error_code=work.error_code,
        deaths=list(work.deaths.in_a_row), deaths_in_all=work.deaths.in_all,
    )  # fmt: skip


class Providing:
    """One asset being provided: a thread at one end, the event loop at the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled = threading.Event()
        self.news = asyncio.Event()
        self._loop = loop
        self._latest: Progress | None = None

    def run(self, store: AssetStore, asset: str) -> LocatedAsset:
        """In the thread."""
        return store.install(asset, report=self._report, cancelled=self.cancelled.is_set)

    def _report(self, progress: Progress) -> None:
        """In the thread. Only the newest counts: a slow reader skips the rest."""
        self._latest = progress
        self._loop.call_soon_threadsafe(self.news.set)

    def take(self) -> Progress | None:
        """What is newest since the last time, if anything."""
        self.news.clear()
        latest, self._latest = self._latest, None
        return latest
