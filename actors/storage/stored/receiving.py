"""Takes uploads in, part by part, and hands the store what is whole and proved.

    part ──► admitted by the quota ──► written ──► last one: checksum, fsync ──► publish

Uploads are known to this process alone. Its next one removes what they left, and their senders
begin them anew.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from actors.storage.publishing import require_space
from actors.storage.stored.disk import Staged, Write, file_errors
from actors.storage.stored.entries import StoredFile
from actors.storage.stored.names import check_name, check_owner
from actors.storage.stored.outcomes import FileStays, Observe, UploadsExpired
from actors.storage.stored.quota import Claim
from actors.storage.stored.store import FileStore
from actors.storage.stored.uploads import Part, Upload, UploadEvent, UploadState
from protocol.errors import InvalidRequest, NotFound, NoyauError, Overloaded

MOST_ENDED: Final = 256
"""Uploads known after their end, whose answer may have been lost on its way."""
RETRY_S: Final = 0.1
"""When to come back where too many uploads are open: most are small, and take milliseconds."""


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """How much may be on its way in."""

    most_open: int
    """Uploads of one owner."""
    timeout_s: float
    """Seconds since its last part after which one is dropped."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a part."""

    received: int
    """Bytes of the file so far."""
    file: StoredFile | None = None
    """Where it is saved."""


Key = tuple[str, str | int]
"""Of an upload: its owner, and its id, or a number for one that has none."""


class Incoming:
    """One upload with what belongs to it."""

    def __init__(self, key: Key, upload: Upload, staged: Staged) -> None:
        self.key = key
        self.upload = upload
        self.staged = staged
        self.digest = blake3()
        self.busy = threading.Lock()
        """Held while a part of it is taken in: two of them at once would be written mixed."""
        self.file: StoredFile | None = None
        """Once it is saved."""


class Receiver:
    """All uploads of a store. Any number of threads may use it."""

    def __init__(
        self,
        store: FileStore,
        bounds: UploadBounds,
        observe: Observe,
        clock: Callable[[], float] = time.monotonic,
        write: Write = os.write,
    ) -> None:
        """``clock``: monotonic seconds."""
        self._store = store
        self._bounds = bounds
        self._observe = observe
        self._clock = clock
        self._write = write
        self._open: dict[Key, Incoming] = {}
        self._ended: OrderedDict[Key, StoredFile] = OrderedDict()
        self._numbers = itertools.count()

    def claims(self, owner: str, without: Upload | None = None) -> list[Claim]:
        """What the open uploads of an owner will need."""
        with self._store.lock:
            uploads = [one.upload for one in self._open.values()]
            return [(u.name, u.claim) for u in uploads if u.owner == owner and u is not without]

    @property
    def owners(self) -> list[str]:
        """All that have open uploads."""
        with self._store.lock:
            return sorted({owner for owner, _ in self._open})

    # --- parts ------------------------------------------------------------------------------

    def take(self, owner: str, part: Part, data: memoryview) -> Taken:
        """Take a part in; returns when it is written, and of the last one when the file is on the
        disk.

        Raises `InvalidRequest` for a part that does not fit, `NotFound` (with ``details.upload``)
        for one of an upload that is not known here, `QuotaExceeded`, `Overloaded`, `DiskFull` and
        `AssetUnavailable`. Where writing fails the upload is dropped, and the name means what it
        meant before.
        """
        part.check()
        with self._store.lock:
            ended = self._ended.get((owner, part.upload))
            if ended is not None:
                return _once_more(ended, part)
            incoming = self._find(owner, part)
        if incoming is None:
            return self._saved_before(owner, part)
        with incoming.busy:
            # It may have come to its end while this waited.
            if incoming.file is not None:
                return _once_more(incoming.file, part)
            if incoming.upload.state is UploadState.DROPPED:
                raise _unknown(part)
            if not self._admitted(incoming, part, data):
                return Taken(incoming.upload.received)
            return self._written(incoming, part, data)

    def _find(self, owner: str, part: Part) -> Incoming | None:
        """The upload of a part; of a first one, a new upload."""
        key = (owner, part.upload or next(self._numbers))
        found = self._open.get(key)
        if found is None and part.offset == 0:
            found = self._open[key] = self._begin(key, part)
        return found

    def _begin(self, key: Key, part: Part) -> Incoming:
        owner = check_owner(key[0])
        check_name(part.name)
        claims = self.claims(owner)
        if len(claims) >= self._bounds.most_open:
            raise Overloaded(
                f"{owner} has {len(claims)} uploads open, the most that it may: end or abandon one",
                retry_after_s=RETRY_S,
            )
        upload = Upload(owner, part, self._clock())
        self._store.admit(owner, claims, (part.name, upload.claim))
        with file_errors(self._store.root):
            require_space(self._store.root, upload.claim)
            return Incoming(key, upload, self._store.folder.stage(self._write))

    def _saved_before(self, owner: str, part: Part) -> Taken:
        """A part of an upload that is not known here. Of the last one the answer may have been lost
        with the process that gave it: then the file is what it was to become."""
        file = self._store.find(owner, part.name) if part.last else None
        if file is None or file.checksum != part.checksum:
            raise _unknown(part)
        return Taken(file.size, file)

    def _admitted(self, incoming: Incoming, part: Part, data: memoryview) -> bool:
        """Whether it is to be written; not when it came before. Nothing has changed when this
        raises, but an upload that this would have been the first part of is over."""
        upload = incoming.upload
        try:
            if not upload.is_new(part):
                with file_errors(self._store.root):
                    if incoming.staged.holds(data, part.offset):
                        return False
                raise InvalidRequest(
                    f"the part of upload {upload.id} at {part.offset} came before with other "
                    "bytes: draw a new id for each upload"
                )
            with self._store.lock:
                wanted = upload.claim_with(part)
                if wanted > upload.claim:
                    others = self.claims(upload.owner, without=upload)
                    self._store.admit(upload.owner, others, (upload.name, wanted))
                    upload.claim = wanted
        except NoyauError:
            if not upload.received:
                self._drop(incoming, UploadEvent.FAILED)
            raise
        return True

    def _written(self, incoming: Incoming, part: Part, data: memoryview) -> Taken:
        upload = incoming.upload
        try:
            with file_errors(self._store.root):
                incoming.staged.append(data)
                incoming.digest.update(data)
                upload.wrote(part, self._clock())
                file = self._sealed(incoming, part) if part.last else None
        except BaseException:
            self._drop(incoming, UploadEvent.FAILED)
            raise
        return Taken(upload.received, file)

    def _sealed(self, incoming: Incoming, part: Part) -> StoredFile:
        """All of it came: prove it and publish it."""
        upload, checksum = incoming.upload, f"blake3-{incoming.digest.hexdigest()}"
        if part.checksum not in ("", checksum):
            raise InvalidRequest(
                f"what came as {upload.name!r} has the checksum {checksum}, and was to have "
                f"{part.checksum}: send it again",
                checksum=checksum,
            )
        incoming.staged.sync()
        with self._store.lock:
            incoming.file = self._store.publish(
                upload.owner, upload.name, incoming.staged, upload.received, checksum, part.ttl_s
            )
            upload.take(UploadEvent.PUBLISHED)
            incoming.staged.close()
            del self._open[incoming.key]
            if upload.id:
                self._ended[incoming.key] = incoming.file
                if len(self._ended) > MOST_ENDED:
                    self._ended.popitem(last=False)
        return incoming.file

    # --- uploads that come to nothing -------------------------------------------------------

    def _drop(self, incoming: Incoming, event: UploadEvent) -> None:
        with self._store.lock:
            incoming.upload.take(event)
            del self._open[incoming.key]
            try:
                incoming.staged.discard()
            except OSError as error:
                # The next start removes it.
                self._observe(FileStays(incoming.staged.path, str(error)))

    def abandon(self, owner: str, upload: str) -> None:
        """The rest of it will not come. Nothing happens where there is no such upload."""
        with self._store.lock:
            incoming = self._open.get((owner, upload))
        if incoming is not None:
            with incoming.busy:
                if incoming.upload.state is UploadState.OPEN:
                    self._drop(incoming, UploadEvent.ABANDONED)

    def expire(self) -> None:
        """Drop the uploads that nobody went on with in time."""
        dropped: Counter[str] = Counter()
        with self._store.lock:
            for incoming in list(self._open.values()):
                idle_s = self._clock() - incoming.upload.touched_at
                if idle_s >= self._bounds.timeout_s and incoming.busy.acquire(blocking=False):
                    try:
                        self._drop(incoming, UploadEvent.EXPIRED)
                    finally:
                        incoming.busy.release()
                    dropped[incoming.upload.owner] += 1
        for owner, count in dropped.items():
            self._observe(UploadsExpired(owner, count))


def _once_more(file: StoredFile, part: Part) -> Taken:
    """The answer to a part of an upload that is saved."""
    if part.name != file.name or (part.last and part.checksum != file.checksum):
        raise InvalidRequest(
            f"upload {part.upload} was {file.name!r} and is saved: draw a new id for each upload"
        )
    return Taken(file.size, file)


def _unknown(part: Part) -> NotFound:
    return NotFound(
        f"there is no upload {part.upload}: it expired, failed or was abandoned, or storage was "
        "started again since it began; send the file again from its beginning, with a new id",
        upload=part.upload,
    )
