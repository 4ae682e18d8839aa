"""Where the work is done: by the noyau that runs, or, where none does, in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from actors.storage.building import Watch
from actors.storage.guardian import Guardian
from actors.storage.making import make_guardian
from actors.storage.outcomes import StoreEvent
from actors.storage.sources import Progress
from configs import Settings, load_settings
from configs.actor_settings import StorageSettings
from noyau.assets.bar import Bar
from noyau.here import check_here
from noyau.terminal import errors
from protocol.client import Client
from protocol.errors import ActorUnavailable, InternalError, NotFound, NotRunning
from protocol.messages.base import Message, Stream
from protocol.messages.storage import AssetProgress, ReloadAssets

LONG_S = 24 * 3600.0
"""A large file over a slow line. Ctrl-C ends it; a stalled download ends by itself."""

Done = TypeVar("Done")
End = TypeVar("End", bound=Message)


@dataclass(frozen=True, slots=True)
class Place:
    """Which noyau is meant."""

    run_folder: Path | None
    config: Path | None
    assignments: list[str]

    def settings(self) -> Settings:
        """As they would be at a start."""
        return load_settings(file=self.config, assignments=self.assignments)


@asynccontextmanager
async def running(place: Place) -> AsyncIterator[Client | None]:
    """A client of the noyau that runs; None where none does, here."""
    client = Client.connect(place.run_folder or _default_folder(place))
    try:
        await client.open()
    except NotRunning:
        check_here(place.run_folder)
        yield None
        return
    try:
        yield client
    finally:
        await client.close()


def _default_folder(place: Place) -> Path | None:
    # Without settings of its own the client knows best, also another machine's address.
    if place.config is None and not place.assignments:
        return None
    return place.settings().run.folder


async def ask_storage(client: Client, message: Stream[AssetProgress, End], bar: Bar) -> End:
    """Have the running storage do it, and show how far it is. Raises what it raises."""
    async with client.stream(message, timeout_s=LONG_S) as stream:
        async for progress in stream:
            bar.show(progress)
    if stream.end is None:
        raise InternalError("storage ended without saying what it did")
    return stream.end


async def guardian_of(place: Place) -> Guardian:
    """The guardian of the folder on this machine, beside that of a noyau that runs."""
    check_here(place.run_folder)
    settings = place.settings()
    folder = settings.data.assets_folder
    async with running(place) as client:
        if client is not None:
            folder = Path((await client.status()).data_folder) / "assets"
    found = settings.actors.get("storage")
    options = StorageSettings.model_validate(found.settings if found else {})
    return make_guardian(folder, options, _tell)


async def do_here(work: Callable[[Watch], Done], bar: Bar | None = None) -> Done:
    """Do blocking work in a thread, and show how far it is. Ctrl-C ends it in order: what was
    fetched stays. Where it comes too late to end it, it is done."""
    stop = threading.Event()

    def report(progress: Progress) -> None:
        if bar is None:
            return
        bar.show(
            AssetProgress(
                asset=progress.asset, stage=progress.stage, done_bytes=progress.done_bytes,
                total_bytes=progress.total_bytes, done_chunks=progress.done_chunks,
                total_chunks=progress.total_chunks,
            )
        )  # fmt: skip

    task = asyncio.ensure_future(asyncio.to_thread(work, Watch(report, stop.is_set)))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if task.exception() is not None:
            raise
        return task.result()


async def tell_of_change(place: Place) -> None:
    """Have the noyau that runs, if one does, read the lists in the asset folder anew."""
    async with running(place) as client:
        if client is not None:
            try:
                await client.ask(ReloadAssets(), timeout_s=30)
            except (ActorUnavailable, NotFound) as error:
                errors.print(
                    f"The storage that runs was not told: {error}; restart it: "
                    "noyau restart storage",
                    highlight=False, soft_wrap=True,
                )  # fmt: skip


def _tell(event: StoreEvent) -> None:
    errors.print(str(event), style="dim", markup=False, highlight=False, soft_wrap=True)
