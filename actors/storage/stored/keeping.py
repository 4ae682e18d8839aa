"""The store of files on threads of its own: it waits for the disk, the event loop does not.

It is opened in the background, like the table of work: the reading of what there is does not delay
the actor's start. What asks for it waits, or is told why it cannot be had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from actors.storage.stored.quota import Quota
from configs.actor_settings import StorageSettings
from protocol.errors import MissingDependency

if TYPE_CHECKING:
    from actors.storage.stored.outcomes import FileEvent
    from actors.storage.stored.receiving import Receiver
    from actors.storage.stored.store import FileStore

T = TypeVar("T")

THREADS = 4
"""Parts that are written, synced or read at the same time: a disk is not faster with more."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Kept:
    """What is opened."""

    store: FileStore
    receiver: Receiver

    def collect(self) -> int:
        """Remove what is over; returns how many files expired."""
        self.receiver.expire()
        return self.store.collect()


class FileThreads:
    """Does what is asked of the store."""

    def __init__(
        self, folder: Path, options: StorageSettings, observe: Callable[[FileEvent], object]
    ) -> None:
        """``observe`` is called in the threads."""
        self._folder = folder
        self._options = options
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        self._opening: asyncio.Future[Kept] | None = None

    def _open(self) -> asyncio.Future[Kept]:
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            # A failure is tried again by whoever asks next: its cause may have been removed.
            self._opening = self._loop.run_in_executor(self._threads, self._opened)
        return self._opening

    def _opened(self) -> Kept:
        try:
            from actors.storage.stored.receiving import Receiver, UploadBounds
            from actors.storage.stored.store import FileStore
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f'stored files need the library {error.name}: pip install "noyau[storage]"'
            ) from None
        store = FileStore(self._folder, self._quota_of, self._observe)
        options = self._options
        bounds = UploadBounds(options.max_uploads, options.upload_timeout_s)
        return Kept(store, Receiver(store, bounds, self._observe))

    def _quota_of(self, owner: str) -> Quota:
        options = self._options
        own = options.file_quotas.get(owner)
        mib, files = options.files_mib, options.max_files
        if own is not None:
            mib = mib if own.files_mib is None else own.files_mib
            files = files if own.max_files is None else own.max_files
        return Quota(int(mib * MIB), files)

    async def do(self, action: Callable[[Kept], T]) -> T:
        """Run ``action`` in a thread. Raises what opening the store or the action raises."""
        kept = await asyncio.shield(self._open())
        # Not cancelled with its caller: what was begun is finished.
        return await asyncio.shield(self._loop.run_in_executor(self._threads, lambda: action(kept)))

    def later(self, action: Callable[[], None]) -> None:
        """Run it when a thread is free; nobody waits for it."""
        self._threads.submit(action)

    def close(self) -> None:
        """Nothing more is begun, and another process may have the folder."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        opening = self._opening
        if opening is not None and opening.done() and opening.exception() is None:
            opening.result().store.close()
