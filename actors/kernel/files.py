"""Stored files, as an actor uses them: save, read, list, delete. See docs/files.md.

::

    files = Files(self.caller)
    await files.save("results/7.json", data, ttl_s=86_400)
    async for piece in files.read("results/7.json"):
        ...

What a death of storage interrupts goes on with its next incarnation: a file that was being saved is
sent again, and one that was being read is read on, if it is still the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import structlog

from protocol.blobs import Blob
from protocol.caller import RETRY, Caller
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    InvalidRequest,
    MissingDependency,
    NotFound,
    NoyauError,
    Overloaded,
    StreamBroken,
)
from protocol.messages.storage import (
    MOST_PART_BYTES,
    AbandonUpload,
    DeleteFile,
    FileSaved,
    ListFiles,
    ReadFile,
    SaveFile,
    StoredFileInfo,
)

STORAGE = "storage"
SAVE_S = 60.0
READ_S = 300.0
ABANDON_S = 2.0
MOST_BEGUN = 5
"""How often a file is sent from its beginning before it is given up: storage died as often."""
FRAME_REST_BYTES = 4096
"""Kept for all but the content, where the settings want small frames."""

log = structlog.get_logger("files")

Content = bytes | bytearray | memoryview | Path


class Files:
    """The stored files of the actor whose connection this is, and those of others to look at. All
    methods belong to the event loop's thread."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._part_bytes = min(MOST_PART_BYTES, caller.max_frame_bytes - FRAME_REST_BYTES)

    # --- saving -----------------------------------------------------------------------------

    async def save(
        self,
        name: str,
        content: Content,
        *,
        ttl_s: float | None = None,
        timeout_s: float = SAVE_S,
    ) -> StoredFileInfo:
        """Save bytes, or what is in a file, under a name of one's own; it is on the disk when this
        returns, and whatever the name meant before is replaced. ``ttl_s``: seconds after which it
        goes by itself.

        Raises `InvalidRequest` (a name that is none …), `InvalidMessage`, `QuotaExceeded`,
        `DiskFull`, what asking raises, and OSError where the file to be saved cannot be read. Then
        the name means what it meant before, unless storage was lost or the time was over in the
        last moment.
        """
        until = self._caller.clock.now() + timeout_s
        size = content.stat().st_size if isinstance(content, Path) else memoryview(content).nbytes
        if size <= self._part_bytes:
            data = await _piece(content, 0, size)
            saved = await self._send(_part(name=name, data=Blob(data), ttl_s=ttl_s), until)
            return _whole(saved)
        for attempt in range(MOST_BEGUN):
            upload = secrets.token_hex(16)
            try:
                return await self._upload(upload, name, content, size, ttl_s, until)
            except NotFound as error:
                # The parts were kept by a process that is gone.
                if error.details.get("upload") != upload or attempt == MOST_BEGUN - 1:
                    raise
            except (NoyauError, OSError):
                await self._abandon(upload)
                raise
        raise AssertionError("the last attempt returns or raises")

    async def _upload(
        self, upload: str, name: str, content: Content, size: int, ttl_s: float | None, until: float
    ) -> StoredFileInfo:
        try:
            from blake3 import blake3
        except ModuleNotFoundError:
            raise MissingDependency(
                f"files of more than {self._part_bytes} bytes need the library blake3: pip install "
                '"noyau[storage]"'
            ) from None
        digest, offset = blake3(), 0
        while True:
            data = await _piece(content, offset, min(self._part_bytes, size - offset))
            digest.update(data)
            last = offset + len(data) == size
            part = _part(
                name=name, data=Blob(data), upload=upload, offset=offset, last=last, size=size,
                checksum=f"blake3-{digest.hexdigest()}" if last else "", ttl_s=ttl_s,
            )  # fmt: skip
            saved = await self._send(part, until)
            if saved.file is not None:
                return saved.file
            offset = saved.received

    async def _send(self, part: SaveFile, until: float) -> FileSaved:
        while True:
            try:
                return await self._caller.ask(STORAGE, part, timeout_s=self._left(until))
            except Overloaded as full:
                await self._come_back(full, until)

    def _left(self, until: float) -> float:
        return max(0.0, until - self._caller.clock.now())

    async def _come_back(self, full: Overloaded, until: float) -> None:
        """Wait for as long as storage asks for. Raises what it is given where there is no time."""
        pause = full.details.get("retry_after_s")
        if not isinstance(pause, int | float) or pause >= self._left(until):
            raise full
        await asyncio.sleep(pause)

    async def _abandon(self, upload: str) -> None:
        try:
            await self._caller.ask(STORAGE, AbandonUpload(upload=upload), timeout_s=ABANDON_S)
        except NoyauError as error:
            # It expires.
            log.warning("upload_not_abandoned", upload=upload, error=error.message)

    # --- reading ----------------------------------------------------------------------------

    async def read(
        self,
        name: str,
        *,
        owner: str = "",
        offset: int = 0,
        size: int | None = None,
        timeout_s: float = READ_S,
    ) -> AsyncGenerator[memoryview, None]:
        """The content piece by piece, or that of a range. It ends normally only when all of the
        file was proved to be what was saved: until then, what came is not to be trusted.

        Raises `NotFound`, also when another content was saved under the name before a read that was
        interrupted could go on; `AssetCorrupt`; and what streaming raises.
        """
        until = self._caller.clock.now() + timeout_s
        checksum, lost = "", 0
        while True:
            message = ReadFile(owner=owner, name=name, offset=offset, size=size, checksum=checksum)
            try:
                stream = await self._caller.stream(STORAGE, message, timeout_s=self._left(until))
                async with stream:
                    async for part in stream:
                        offset += len(part.data)
                        size = None if size is None else size - len(part.data)
                        checksum, lost = part.checksum, 0
                        yield part.data.view
                return
            except Overloaded as full:
                await self._come_back(full, until)
            except (ActorDied, ActorUnavailable, StreamBroken):
                lost += 1
                if lost >= MOST_BEGUN or not self._left(until):
                    raise
                await asyncio.sleep(RETRY.delay(lost))

    async def list(self, prefix: str = "", *, owner: str = "") -> AsyncIterator[StoredFileInfo]:
        """All files whose names begin so, in the order of their names."""
        after = ""
        while True:
            message = ListFiles(owner=owner, prefix=prefix, after=after, limit=1000)
            page = await self._caller.ask(STORAGE, message)
            for item in page.items:
                yield item
            if not page.more:
                return
            after = page.items[-1].name

    async def delete(self, name: str) -> bool:
        """Delete a file of one's own, durably; returns whether it was there."""
        return (await self._caller.ask(STORAGE, DeleteFile(name=name))).deleted


def _part(**fields: object) -> SaveFile:
    """Raises `InvalidMessage` for what can be none, such as a time to live of nothing."""
    return SaveFile.from_body(fields)


async def _piece(content: Content, offset: int, size: int) -> bytes | memoryview:
    """Exactly so much of it. Raises `InvalidRequest` where a file has become shorter."""
    if not isinstance(content, Path):
        return memoryview(content).cast("B")[offset : offset + size]
    data = await asyncio.to_thread(_read, content, offset, size)
    if len(data) < size:
        raise InvalidRequest(f"{content} became shorter while it was being saved")
    return data


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _whole(saved: FileSaved) -> StoredFileInfo:
    assert saved.file is not None
    return saved.file
