"""What actors and operators may ask of stored files: the half of the storage actor that keeps them.

Whose a file is, is known from the connection: an actor has proved who it is. Who is none (a
person's command) says whose files are meant, and may look at all and delete them, but saves none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from actors.kernel import Actor, Surroundings, handles
from actors.kernel.request import Request
from actors.storage.stored.entries import StoredFile
from actors.storage.stored.keeping import FileThreads, Kept
from actors.storage.stored.names import check_name, check_owner
from actors.storage.stored.uploads import Part
from configs.actor_settings import StorageSettings
from protocol.blobs import Blob
from protocol.errors import InvalidRequest, NotAllowed, NoyauError, Overloaded
from protocol.messages.base import Empty
from protocol.messages.storage import (
    AbandonUpload,
    DeleteFile,
    FileDeleted,
    FilePart,
    FileRead,
    FileSaved,
    FileUsage,
    FileUsages,
    ListFiles,
    OwnerUsage,
    ReadFile,
    SaveFile,
    StoredFileInfo,
    StoredFiles,
)

if TYPE_CHECKING:
    from actors.storage.stored.outcomes import FileEvent

OPEN_FILES_S = 0.5
"""After the start, unless somebody asks for a file before."""
COLLECT_S = 30.0
"""How often what has expired is removed. Nobody sees it in between."""
READ_BYTES = 256 * 1024
"""Of one chunk: the 64 that may be under way to a reader are 16 MiB."""
FRAME_REST_BYTES = 4096
"""Kept for all but the content, where the settings want small frames."""
MOST_PARTS = 64
"""Parts that are being written or wait for that, of all uploads: 64 MiB at most."""
MOST_READERS = 32
"""Files that are being read at the same time."""
RETRY_S = 0.1


class FileKeeper(Actor):
    """An actor that keeps files for the others."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        settings = surroundings.incarnation.settings
        loop = asyncio.get_running_loop()
        self._files = FileThreads(
            settings.data.files_folder,
            self.options(StorageSettings),
            # It is called in a working thread.
            lambda event: loop.call_soon_threadsafe(self._tell_of_files, event),
        )
        self._read_bytes = min(READ_BYTES, settings.limits.max_frame_bytes - FRAME_REST_BYTES)
        self._parts = self._readers = 0
        self._collecting: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Open the store in the background, and have it collect what is over from time to time."""
        self._collecting = asyncio.get_running_loop().create_task(self._collect())

    async def on_stop(self) -> None:
        """Let go of the folder."""
        if self._collecting is not None:
            self._collecting.cancel()
        await asyncio.to_thread(self._files.close)

    async def _collect(self) -> None:
        told = ""
        await asyncio.sleep(OPEN_FILES_S)
        while True:
            try:
                expired = await self._files.do(Kept.collect)
            except NoyauError as error:
                if told != error.message:
                    self.log.error("files_not_collected", error=error.message)
                    self.publish("storage.failed", error.message)
                told = error.message
            else:
                told = ""
                if expired:
                    self.log.info("files_expired", count=expired)
            await asyncio.sleep(COLLECT_S)

    def _tell_of_files(self, event: FileEvent) -> None:
        """Something that people should know."""
        self.log.warning("file", happened=str(event))
        self.publish(event.what, str(event))

    # --- saving -----------------------------------------------------------------------------

    @handles(SaveFile)
    async def save_file(self, message: SaveFile, request: Request) -> FileSaved:
        """See `SaveFile`."""
        owner = _own_name(request)
        part = Part(
            message.upload, message.name, message.offset, len(message.data), message.last,
            message.checksum, message.size, message.ttl_s,
        )  # fmt: skip
        if self._parts >= MOST_PARTS:
            raise Overloaded(
                f"{MOST_PARTS} parts of files wait to be written", retry_after_s=RETRY_S
            )
        self._parts += 1
        try:
            taken = await self._files.do(
                lambda kept: kept.receiver.take(owner, part, message.data.view)
            )
        finally:
            self._parts -= 1
        self.progressed()
        return FileSaved(received=taken.received, file=_info(taken.file) if taken.file else None)

    @handles(AbandonUpload)
    async def abandon_upload(self, message: AbandonUpload, request: Request) -> Empty:
        """See `AbandonUpload`."""
        owner = _own_name(request)
        await self._files.do(lambda kept: kept.receiver.abandon(owner, message.upload))
        return Empty()

    # --- reading ----------------------------------------------------------------------------

    @handles(ReadFile)
    async def read_file(
        self, message: ReadFile, request: Request
    ) -> AsyncGenerator[FilePart | FileRead, None]:
        """See `ReadFile`."""
        owner = _whose(message.owner, request)
        if self._readers >= MOST_READERS:
            raise Overloaded(f"{MOST_READERS} files are being read", retry_after_s=RETRY_S)
        self._readers += 1
        try:
            reader = await self._files.do(
                lambda kept: kept.store.open(
                    owner, message.name, message.offset, message.size, message.checksum
                )
            )
            try:
                while not reader.done:
                    part = await self._files.do(
                        lambda kept: kept.store.step(reader, self._read_bytes)
                    )
                    self.progressed()
                    if part is not None:
                        offset, data = part
                        yield FilePart(
                            offset=offset, data=Blob(data), checksum=reader.file.checksum
                        )
            finally:
                # In a thread: one may be in the middle of a step, whoever waited for it.
                self._files.later(reader.close)
            yield FileRead(file=_info(reader.file))
        finally:
            self._readers -= 1

    @handles(ListFiles)
    async def list_files(self, message: ListFiles, request: Request) -> StoredFiles:
        """See `ListFiles`."""
        owner = _whose(message.owner, request)
        found, more = await self._files.do(
            lambda kept: kept.store.page(owner, message.prefix, message.after, message.limit)
        )
        return StoredFiles(items=[_info(file) for file in found], more=more)

    @handles(FileUsage)
    async def file_usage(self, message: FileUsage) -> FileUsages:
        """See `FileUsage`."""
        owners = [check_owner(message.owner)] if message.owner else None
        return FileUsages(items=await self._files.do(lambda kept: _usages(kept, owners)))

    # --- going ------------------------------------------------------------------------------

    @handles(DeleteFile)
    async def delete_file(self, message: DeleteFile, request: Request) -> FileDeleted:
        """See `DeleteFile`."""
        owner = _whose(message.owner, request)
        if request.info is not None and request.info.name != owner:
            raise NotAllowed(f"{request.info.name} may delete its own files, and not {owner}'s")
        name = check_name(message.name)
        return FileDeleted(
            deleted=await self._files.do(lambda kept: kept.store.delete(owner, name))
        )


def _own_name(request: Request) -> str:
    # The role internal is given to nobody else.
    assert request.info is not None
    return check_owner(request.info.name)


def _whose(asked: str, request: Request) -> str:
    """The owner that is meant. Raises `InvalidRequest` where that is not said."""
    if asked:
        return check_owner(asked)
    if request.info is None:
        raise InvalidRequest(
            "say whose files are meant: `owner`, the name of an actor; those that keep some are "
            "listed by storage.file_usage"
        )
    return check_owner(request.info.name)


def _usages(kept: Kept, owners: list[str] | None) -> list[OwnerUsage]:
    if owners is None:
        owners = sorted({*kept.store.owners, *kept.receiver.owners})
    found = []
    for owner in owners:
        claims = kept.receiver.claims(owner)
        usage, quota = kept.store.usage(owner, claims)
        found.append(
            OwnerUsage(
                owner=owner, used_bytes=usage.bytes, allowed_bytes=quota.bytes,
                reserved_bytes=usage.reserved_bytes, files=usage.files, allowed_files=quota.files,
                reserved_files=usage.reserved_files, open_uploads=len(claims),
            )
        )  # fmt: skip
    return found


def _info(file: StoredFile) -> StoredFileInfo:
    return StoredFileInfo(
        owner=file.owner, name=file.name, size=file.size, checksum=file.checksum,
        saved_at=file.saved_at, expires_at=file.expires_at or None,
    )  # fmt: skip
