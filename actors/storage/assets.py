"""The asset half of storage: hands out files that are on disk and are what they claim to be.

Its work blocks (hashing, fetching, fsync), so it is done in threads; what is told of it comes back
to the event loop. What a process's end says of the file that it had loaded, and who has to load a
file again, is seen here too: nobody else knows both the files and the processes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from actors.kernel import Actor, Surroundings, handles
from actors.kernel.request import Request
from actors.storage.background import what_to_read_ahead
from actors.storage.building import Watch
from actors.storage.delivery import missing
from actors.storage.guardian import Checked, State, Updated
from actors.storage.making import make_guardian
from actors.storage.manifest import Asset
from actors.storage.meter import Meter
from actors.storage.outcomes import Installed, LocatedAsset, Repaired, SourceTriedAgain, StoreEvent
from actors.storage.prefetch import free_memory, read_ahead
from actors.storage.scrubbing import Scrubbing
from actors.storage.sources import Progress
from actors.storage.telling import as_checked, as_listed, as_located, as_updated, in_words
from actors.storage.uses import Uses
from actors.storage.working import Working
from configs.actor_settings import StorageSettings
from protocol.directory import Death
from protocol.errors import AssetUnavailable, NoyauError
from protocol.messages.base import Empty
from protocol.messages.storage import (
    AssetProgress,
    Assets,
    CheckedAssets,
    DoubtAsset,
    ListAssets,
    Located,
    Provide,
    ReloadAssets,
    RepairAssets,
    UpdateAssets,
    UpdatedAssets,
    VerifyAssets,
)
from protocol.messages.supervisor import Restart

THREADS: Final = 4
"""Assets worked on at the same time; each beyond that waits its turn."""
IDLE_AFTER_S: Final = 5.0
"""After the start nothing is done unasked for so long: whoever waits for a model goes first."""
RESTART_S: Final = 10.0
FOLLOW_S: Final = 3600.0
"""The directory says when it changes; this is for what nobody thought of."""
GOOD_NEWS: Final = (Installed, Repaired, SourceTriedAgain)

Done = TypeVar("Done")


class AssetKeeper(Actor):
    """The guardian of model files."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(StorageSettings)
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="asset")
        # What takes a moment never waits for what takes minutes.
        self._quick = ThreadPoolExecutor(1, thread_name_prefix="asset-quick")
        self._proving: set[str] = set()
        self._guardian = make_guardian(
            surroundings.incarnation.settings.data.assets_folder, self._options, self._observe
        )
        self._guardian.in_force.on_change.append(
            lambda files: self._from_thread(self._no_longer_in_force, files)
        )
        self._uses = Uses()
        self._at_work = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._scrubbing = Scrubbing(
            self._guardian.store,
            period_s=self._options.scrub_period_s,
            bytes_per_s=self._options.scrub_bytes_per_s,
            found=lambda asset, wrong: self._from_thread(self._scrub_found, asset, wrong),
            scrubbed=lambda asset: self._from_thread(self._scrub_done, asset),
            failed=lambda words: self._from_thread(self._failed, words),
        )

    async def on_start(self) -> None:
        """Clear what dead runs left half done, and begin what is done in the background."""
        await super().on_start()
        self._background(self._tried(self._guardian.store.sweep, threads=self._threads))
        self.caller.on_death.append(self._on_death)
        self._background(self._follow_directory())
        self._loop.call_later(IDLE_AFTER_S, self._when_idle)

    async def on_stop(self) -> None:
        """Let go of the background's threads and tasks."""
        self._scrubbing.stop()
        for task in self._tasks:
            task.cancel()
        await super().on_stop()

    def _when_idle(self) -> None:
        self._scrubbing.start()
        if self._options.prefetch:
            self._background(self._read_ahead())
        if self._options.repository is not None and self._options.updates != "by_hand":
            self._background(self._look_for_updates())
        self._background(self._have_what_is_missed())

    def _background(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tried(
        self, work: Callable[..., Any], *arguments: Any, threads: Executor | None = None
    ) -> None:
        """Do work in a thread, a moment's if no other one is named; what goes wrong is told, and
        ends nothing else."""
        try:
            await self._loop.run_in_executor(threads or self._quick, work, *arguments)
        except (NoyauError, OSError) as error:
            self._failed(str(error))

    def _failed(self, words: str) -> None:
        self.log.error("asset", happened=words)
        self.publish("asset.failed", words)

    # --- what is told -----------------------------------------------------------------------

    def _from_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)

    def _observe(self, event: StoreEvent) -> None:
        """Called in a working thread: something that people should know."""
        self._from_thread(self._tell, event)

    def _tell(self, event: StoreEvent) -> None:
        log = self.log.info if isinstance(event, GOOD_NEWS) else self.log.warning
        log("asset", happened=str(event))
        self.publish(f"asset.{type(event).__name__.lower()}", str(event))
        if isinstance(event, Repaired):
            self._background(self._reload_users([event.sha256], f"{event.asset} was repaired"))
        if isinstance(event, Installed | Repaired):
            self._background(self._give(event.asset))

    def _show(self, progress: Progress, meter: Meter) -> AssetProgress:
        now = self.clock.now()
        meter.note(now, progress.done_bytes)
        self.progressed()
        self.say(
            f"{progress.stage} {progress.asset}", progress.done_bytes, progress.total_bytes, "bytes"
        )
        told = AssetProgress(
            asset=progress.asset, stage=progress.stage,
            done_bytes=progress.done_bytes, total_bytes=progress.total_bytes,
            done_chunks=progress.done_chunks, total_chunks=progress.total_chunks,
            bytes_per_s=meter.rate(now), remaining_s=meter.remaining_s(now, progress.total_bytes),
        )  # fmt: skip
        self.publish("asset.progress", in_words(told), **told.model_dump())
        return told

    async def _streamed(
        self, work: Callable[[Watch], Done]
    ) -> AsyncGenerator[AssetProgress | Done, None]:
        """Do blocking work, tell how far it is, and yield its result last."""
        meters: dict[tuple[str, str], Meter] = {}
        self._at_work += 1
        try:
            async for item in Working(work).run(self._threads):
                if isinstance(item, Progress):
                    meter = meters.setdefault((item.asset, item.stage), Meter())
                    yield self._show(item, meter)
                else:
                    yield item
        finally:
            self._at_work -= 1
            self.say("idle")

    # --- what is asked ----------------------------------------------------------------------

    @handles(ListAssets)
    async def list_assets(self, message: ListAssets) -> Assets:
        """The manifest in force, and what of it is on disk."""
        return await self._loop.run_in_executor(
            self._quick, as_listed, self._guardian, self._uses.users_of
        )

    @handles(Provide)
    async def provide(
        self, message: Provide, request: Request
    ) -> AsyncGenerator[AssetProgress | Located, None]:
        """Locate the asset, or install it while telling how far that has come."""
        guardian = self._guardian
        known = await self._loop.run_in_executor(self._quick, guardian.trusted, message.asset)
        if known is not None:
            yield self._given(known, request)
            return
        if not message.fetch and not await self._loop.run_in_executor(
            self._quick, guardian.store.present, message.asset
        ):
            asset = guardian.store.manifest.asset(message.asset)
            raise missing(asset, AssetUnavailable(f"{asset.name} is not here"))
        async for item in self._streamed(lambda watch: guardian.provide(message.asset, watch)):
            yield self._given(item, request) if isinstance(item, LocatedAsset) else item

    def _given(self, found: LocatedAsset, request: Request) -> Located:
        if request.info is not None:
            self._uses.given(request.info.name, request.info.epoch, found.sha256)
        return as_located(found)

    @handles(VerifyAssets)
    async def verify_assets(
        self, message: VerifyAssets
    ) -> AsyncGenerator[AssetProgress | CheckedAssets, None]:
        """See `VerifyAssets`."""
        async for item in self._streamed(lambda watch: self._guardian.verify(message.names, watch)):
            yield item if isinstance(item, AssetProgress) else as_checked(item)

    @handles(RepairAssets)
    async def repair_assets(
        self, message: RepairAssets
    ) -> AsyncGenerator[AssetProgress | CheckedAssets, None]:
        """See `RepairAssets`."""
        async for item in self._streamed(lambda watch: self._guardian.repair(message.names, watch)):
            yield item if isinstance(item, AssetProgress) else as_checked(item)

    @handles(UpdateAssets)
    async def update_assets(
        self, message: UpdateAssets
    ) -> AsyncGenerator[AssetProgress | UpdatedAssets, None]:
        """See `UpdateAssets`."""
        async for item in self._streamed(lambda watch: self._update(message, watch)):
            yield as_updated(item) if isinstance(item, Updated) else item

    def _update(self, message: UpdateAssets, watch: Watch) -> Updated:
        """In a thread. Told from there: whoever asked may be gone when it is done."""
        done = self._guardian.update(
            watch, check_only=message.check_only, fetch_only=message.fetch_only
        )
        if done.applied:
            self._from_thread(self._told_of_update, done)
        return done

    def _told_of_update(self, updated: Updated) -> None:
        names = ", ".join(change.after.name for change in updated.changes) or "nothing changed"
        self.publish("asset.updated", f"manifest {updated.version} is in force: {names}")
        before = [change.before.sha256 for change in updated.changes if change.before is not None]
        self._background(self._reload_users(before, "its file was updated"))

    @handles(ReloadAssets)
    async def reload_assets(self, message: ReloadAssets) -> Empty:
        """See `ReloadAssets`."""
        await self._loop.run_in_executor(self._quick, self._guardian.reload)
        return Empty()

    def _no_longer_in_force(self, files: list[str]) -> None:
        """Another process has changed the lists, and said so or not."""
        self._background(self._reload_users(files, "its file is no longer the one in force"))

    @handles(DoubtAsset)
    def doubt_asset(self, message: DoubtAsset) -> Empty:
        """See `DoubtAsset`."""
        for asset in self._assets_of([message.sha256]):
            self.log.warning("asset", happened=f"{asset.name} is in doubt: garbage was made of it")
            self._background(self._made_right(asset, self._guardian.prove))
        return Empty()

    # --- processes and their files ----------------------------------------------------------

    async def _follow_directory(self) -> None:
        while True:
            for sha256 in self._uses.seen(self.caller.directory.entries.values()):
                for asset in self._assets_of([sha256]):
                    await self._tried(self._guardian.proved, asset.name, sha256)
            await self.caller.wait_for_news(self.clock.now() + FOLLOW_S)

    def _on_death(self, death: Death) -> None:
        self._doubt(self._uses.died(death.epoch), f"{death.name} died while it loaded it")

    def died_at_work(self, process: str) -> None:
        """Somebody saw this process, ``NAME.EPOCH``, die while it worked for him."""
        name, _, epoch = process.partition(".")
        self._doubt(self._uses.died(epoch, at_work=True), f"{name} died at work with it")

    def _doubt(self, files: Iterable[str], why: str) -> None:
        """What was proved of these files counts no more."""
        for asset in self._assets_of(files):
            self.log.info("asset", happened=f"{asset.name} is hashed before its next use: {why}")
            self._background(self._tried(self._guardian.store.doubt, asset.name))

    def _assets_of(self, files: Iterable[str]) -> list[Asset]:
        wanted = set(files)
        return [each for each in self._guardian.store.manifest.assets if each.sha256 in wanted]

    def _named(self, names: Iterable[str]) -> list[Asset]:
        """Those of them that the manifest in force still has."""
        wanted = set(names)
        return [each for each in self._guardian.store.manifest.assets if each.name in wanted]

    async def _reload_users(self, files: Sequence[str], why: str) -> None:
        """Have whoever has one of these files loaded load it again: what it has in memory is the
        old one, whatever lies on the disk now."""
        await self._restart(
            sorted({user for sha256 in files for user in self._uses.users_of(sha256)}), why
        )

    async def _restart(self, users: Sequence[str], why: str) -> bool:
        """Whether it is done, or there was nobody to restart."""
        if not users:
            return True
        self.publish("asset.reload", f"{', '.join(users)}: restarted, because {why}")
        try:
            await self.caller.ask("supervisor", Restart(names=users), timeout_s=RESTART_S)
        except NoyauError as error:
            self.log.error("asset", happened=f"{', '.join(users)} could not be restarted: {error}")
            self.publish("asset.failed", f"restart {', '.join(users)} by hand: {error}")
            return False
        return True

    # --- the background ---------------------------------------------------------------------

    def _scrub_found(self, asset: Asset, wrong: list[int]) -> None:
        self.log.error("asset", happened=f"the scrub found {asset.name} damaged", chunks=wrong)
        self.publish(
            "asset.damaged",
            f"{asset.name} is damaged on the disk: {len(wrong)} of its pieces are wrong",
        )
        self._background(self._made_right(asset, self._guardian.mend))

    def _scrub_done(self, asset: Asset) -> None:
        self.publish("asset.scrubbed", f"{asset.name} was read whole and is right")

    async def _made_right(
        self,
        asset: Asset,
        work: Callable[[str, Watch], None],
        failed: str = "could not be repaired",
    ) -> bool:
        """Have an asset's file right; once, however many ask for it meanwhile. Whether it is."""
        if asset.name in self._proving:
            return False
        self._proving.add(asset.name)
        try:
            async for _ in self._streamed(lambda watch: work(asset.name, watch)):
                continue
        except (NoyauError, OSError) as error:
            self._failed(f"{asset.name} {failed}: {error}")
            return False
        finally:
            self._proving.discard(asset.name)
        return True

    async def _read_ahead(self) -> None:
        store = self._guardian.store
        try:
            used_at = await self._loop.run_in_executor(self._quick, store.used_before_boot)
            listed = await self._loop.run_in_executor(self._quick, self._guardian.listed)
        except (NoyauError, OSError) as error:
            self._failed(str(error))
            return
        here = {each.asset.sha256: each for each in listed if each.state is not State.MISSING}
        sizes = {sha256: each.asset.size for sha256, each in here.items()}
        for sha256 in what_to_read_ahead(used_at, sizes, free_memory()):
            await self._loop.run_in_executor(
                self._threads, _quietly, here[sha256], lambda: not self._at_work
            )

    async def _have_what_is_missed(self) -> None:
        """What somebody goes without is tried to be had; nobody has to think of it."""
        while True:
            await asyncio.sleep(self._options.missing_retry_s)
            for asset in self._named(self._uses.missed):
                if await self._made_right(asset, self._guardian.have, "still cannot be had"):
                    # Also where it came between a process's asking for it and its saying so.
                    await self._give(asset.name)

    async def _give(self, asset: str) -> None:
        """Have those that go on without this asset, or with its fallback, start with it."""
        if not await self._restart(self._uses.to_restart_for(asset), f"{asset} is here now"):
            self._uses.not_restarted_for(asset)

    async def _look_for_updates(self) -> None:
        while True:
            try:
                await self._look_once()
            except (NoyauError, OSError) as error:
                self.log.warning("asset", happened=f"no update could be looked for: {error}")
            await asyncio.sleep(self._options.update_check_period_s)

    async def _look_once(self) -> None:
        fetch = self._options.updates == "fetch"
        async for item in self._streamed(
            lambda watch: self._guardian.update(watch, check_only=not fetch, fetch_only=True)
        ):
            if isinstance(item, Updated) and item.changes:
                names = ", ".join(change.after.name for change in item.changes)
                state = "is here" if fetch else "can be had"
                self.publish(
                    "asset.update", f"a new version of {names} {state}: noyau assets update"
                )


def _quietly(checked: Checked, go_on: Callable[[], bool]) -> None:
    """Read a file ahead; where that cannot be done it is left."""
    with contextlib.suppress(OSError):
        # Whoever needs it reads it himself, and hears what is wrong with it.
        read_ahead(checked.path, go_on)
