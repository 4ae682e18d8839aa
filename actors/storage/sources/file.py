"""Assets from a file on this machine: another disk, a stick, a share that is mounted."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

from actors.storage.sources.interface import PIECE_BYTES, NotThere, Order, SourceSpec
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled

_LASTING: Final = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENXIO),
)
"""What opening a file meets that asking again does not change. A stale share, a disk that does not
answer or too many open files may be gone the next time."""


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("must be an absolute path, such as /media/stick/model.gguf")
    return path


class FileSpec(SourceSpec):
    """A file with an absolute path."""

    kind: Literal["file"] = "file"
    path: Annotated[str, AfterValidator(_absolute)]

    @classmethod
    def of_url(cls, url: str) -> FileSpec:
        """``file:///…``; ``ValueError`` where it names another machine."""
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"{url!r} names another machine; a file: URL begins with file:///")
        if "?" in url or "#" in url:
            raise ValueError(f"{url!r} has a ? or # in it; in a file's name they are %3F and %23")
        return cls(path=unquote(parts.path))

    def where(self) -> str:
        """See `SourceSpec.where`."""
        return self.path


class FileSource:
    """Implements `Source` for files.

    A share that hangs is the kernel's to give up: a thread that waits for a disk cannot be told
    anything, so until then (for NFS mounted ``hard``: until the server is back) neither a
    cancellation is seen nor a time-out kept. Mount shares ``soft``, or name a web server.
    """

    ranged = True
    retries_itself = False

    def space_needed(self, spec: FileSpec, size: int) -> int:
        """Nothing is kept beside."""
        return 0

    def read(
        self, spec: FileSpec, offset: int, size: int, order: Order
    ) -> Generator[bytes, None, None]:
        """See `Source.read`."""
        path, left = Path(spec.path), size
        try:
            # Not blocking: a FIFO would make the opening wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            kind = NotThere if error.errno in _LASTING else AssetUnavailable
            raise kind(f"{path} cannot be read: {error.strerror}") from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise NotThere(f"{path} is no file")
            if found.st_size != order.size:
                raise AssetCorrupt(
                    f"{path} has {found.st_size} bytes, and {order.asset} has {order.size}"
                )
            while left:
                if order.cancelled():
                    raise Cancelled(f"reading {path} was cancelled")
                piece = _read(descriptor, min(left, PIECE_BYTES), offset + size - left, path)
                left -= len(piece)
                yield piece
        finally:
            os.close(descriptor)


def _read(descriptor: int, size: int, offset: int, path: Path) -> bytes:
    try:
        piece = os.pread(descriptor, size, offset)
    except OSError as error:
        # Of the source's disk, not of ours: the next source may be better.
        reason = "a bad spot on its disk" if error.errno == errno.EIO else str(error.strerror)
        raise AssetUnavailable(f"{path} cannot be read at byte {offset}: {reason}") from error
    if not piece:
        raise AssetUnavailable(f"{path} ended at byte {offset}: somebody is changing it")
    return piece
