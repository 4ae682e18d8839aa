"""One member out of a wheel, piece by piece, trusting nothing that the wheel says of itself."""

from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Final

from actors.storage.sources.interface import PIECE_BYTES, Order, Progress
from protocol.errors import AssetCorrupt, Cancelled

_UNREADABLE_FLAGS: Final = 0x1 | 0x20 | 0x40
"""A zip member's flags for: encrypted, compressed patch, strongly encrypted."""

_DAMAGED: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, UnicodeDecodeError, OverflowError),
)
"""What ``zipfile`` raises for bytes that make no sense; found by flipping bytes of archives."""

MOST_AT_ONCE: Final = 4 << 20
"""Bytes read in one go. ``zipfile`` reads the whole list of members so and makes objects of it that
are ten times as large: this is room for 50,000 members, three times those of the largest wheels."""


class _Bounded(io.FileIO):
    """A wheel as ``zipfile`` reads it, except that no list of members fills the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises ``BadZipFile`` for more than `MOST_AT_ONCE`."""
        left = os.fstat(self.fileno()).st_size - self.tell()
        wanted = left if size is None or size < 0 else size
        if wanted > MOST_AT_ONCE:
            raise zipfile.BadZipFile(f"its list of members has {wanted} bytes")
        return super().read(wanted) or b""


def unpack(wheel: Path, member: str, order: Order) -> Generator[bytes, None, None]:
    """The bytes of ``member`` in ``wheel``, never more than ``order.size``.

    Raises ``AssetCorrupt`` when the wheel is damaged, has no such member, or one of another size,
    and ``Cancelled``. Memory: a few pieces, whatever the wheel says of itself.
    """
    done = 0
    with closing(_pieces(wheel, member, order.size)) as pieces:
        for piece in pieces:
            if order.cancelled():
                raise Cancelled(f"unpacking {order.asset} was cancelled")
            done += len(piece)
            if done > order.size:
                raise AssetCorrupt(f"{member} in {wheel.name} has more than {order.size} bytes")
            yield piece
            order.report(Progress(order.asset, "unpacking", done, order.size))
    if done != order.size:
        raise AssetCorrupt(f"{member} in {wheel.name} ended after {done} of {order.size} bytes")


def _pieces(wheel: Path, member: str, size: int) -> Generator[bytes, None, None]:
    """The member's bytes. What its user raises while it yields is not taken for damage."""
    try:
        with _Bounded(wheel) as file, zipfile.ZipFile(file) as archive:
            info = _find(archive, member)
            refuse_unfit(info, size)
            with archive.open(info) as packed:
                while piece := packed.read(PIECE_BYTES):
                    yield piece
    except _DAMAGED as error:
        raise AssetCorrupt(f"{member} in {wheel.name} is damaged: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: an offset in the archive points before its start
            raise
        raise AssetCorrupt(f"{member} in {wheel.name} is damaged: {error}") from error


def _find(archive: zipfile.ZipFile, member: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(member)
    except KeyError:
        raise AssetCorrupt(f"the wheel has no member {member}") from None


def refuse_unfit(info: zipfile.ZipInfo, size: int) -> None:
    """Pure: raise ``AssetCorrupt`` for a member that should not even be opened.

    The declared size bounds what ``zipfile`` hands out, so a bomb is refused unopened.
    """
    if info.file_size != size:
        raise AssetCorrupt(f"{info.filename} unpacks to {info.file_size} bytes, not {size}")
    # Anything else ``zipfile`` decompresses without a bound on memory.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise AssetCorrupt(f"{info.filename} is compressed in a way that wheels do not use")
    if info.flag_bits & _UNREADABLE_FLAGS:
        raise AssetCorrupt(f"{info.filename} is encrypted or a patch")
