"""Saves files for callers that must neither fail nor wait, as logs and telemetry. See `spool`.

::

    files = FileSpool(self.caller)
    files.put("spans/0001.jsonl", data, ttl_s=7 * 86_400)   # returns at once, whatever storage does
    await files.close(patience_s=2)                         # in on_stop

Each file is one message to storage, so it has at most 1 MiB. It is saved at least once: twice,
where storage died in the moment in which it had saved it, with the same content under the same
name.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import structlog

from actors.kernel.spool import Entry, Losses, Spool
from protocol.blobs import Blob
from protocol.caller import Caller
from protocol.errors import DeadlineExceeded, NoyauError
from protocol.messages.storage import SaveFile

STORAGE = "storage"
SAVE_S = 10.0
"""For one try, waiting for storage included."""
HURRY_S = 0.1
"""Longest pause between two tries once the spool is being closed."""

log = structlog.get_logger("spool")


class FileSpool:
    """A spool, and what empties it into storage. All methods belong to the event loop's thread."""

    def __init__(self, caller: Caller, spool: Spool | None = None) -> None:
        """``spool``: with other bounds than the default ones."""
        self.spool = Spool() if spool is None else spool
        self._caller = caller
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def put(self, name: str, data: bytes, *, ttl_s: float | None = None) -> None:
        """Have this saved as soon as storage can. Never raises and never waits: what does not fit
        any more, and what storage will never take, is lost, counted and logged."""
        entry = Entry(name, bytes(data), ttl_s)
        if self._closing.is_set():
            self.spool.lose(entry, "the spool is closed")
            return
        self.spool.put(entry)
        self._tell()
        if not len(self.spool):
            return
        if self._task is None or self._task.done():
            # In a context of its own: the deadline of what put it there is not that of saving it.
            self._task = asyncio.get_running_loop().create_task(
                self._run(), context=contextvars.Context()
            )
        self._empty.clear()
        self._news.set()

    async def close(self, patience_s: float) -> Losses:
        """Save what waits, for as long as this; returns what was lost since the beginning. What is
        put from now on is lost too."""
        self._closing.set()
        if self._task is not None and len(self.spool):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience_s)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.spool.give_up("storage could not be had before the end")
        self._tell()
        return self.spool.losses

    async def _run(self) -> None:
        while True:
            self._tell()
            due = self.spool.due()
            if due is None:
                self._empty.set()
                self._news.clear()
                await self._news.wait()
                continue
            await self._pause(due - self._caller.clock.now())
            await self._save(self.spool.begin())

    async def _pause(self, seconds: float) -> None:
        if seconds > 0 and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)
        elif seconds > 0:
            await asyncio.sleep(min(seconds, HURRY_S))

    async def _save(self, entry: Entry) -> None:
        try:
            # By way of a body: whatever was put there, what is wrong with it is a typed error.
            message = SaveFile.from_body(
                {"name": entry.name, "data": Blob(entry.data), "ttl_s": entry.ttl_s}
            )
            # Not again by itself: how many deaths this one may have seen is the spool's to say.
            await self._caller.ask(STORAGE, message, timeout_s=SAVE_S, again=False)
        except NoyauError as error:
            self.spool.failed(error, self._caller.clock.now())
        except asyncio.CancelledError:
            self.spool.failed(DeadlineExceeded("it was being saved at the end"), 0.0)
            raise
        else:
            self.spool.saved()

    def _tell(self) -> None:
        losses = self.spool.tell(self._caller.clock.now())
        if losses is not None:
            log.warning(
                "files_lost", overflowed=losses.overflowed, refused=losses.refused,
                bytes=losses.bytes, reason=losses.reason, waiting=len(self.spool),
            )  # fmt: skip
