"""Cutting where the bytes say so (FastCDC), so that what is inserted moves no later boundary.

The boundaries must be the same for ever and everywhere: whoever publishes a file and whoever has an
older one find equal pieces only if both cut alike. So every parameter is fixed here, the library
is asked to cut a sample before it is trusted, and a test holds the boundaries of more.

FastCDC as in Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
Storage Systems" (2020). Its pieces are a quarter to four times the average. Normalisation 2 rather
than the library's 1, measured: an insertion then costs 1.25 pieces instead of 1.7, for 9 % more
pieces. The gear table is the reference one (seed 0): another would give other boundaries and hide
nothing, since the chunks' hashes are public.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from actors.storage.chunking.regions import READ_BYTES, Read
from protocol.errors import InvalidSettings, MissingDependency

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

SMALLEST_AVERAGE: Final = 1 << 10
LARGEST_AVERAGE: Final = 4 << 20
"""The library's own limit. Memory while cutting: eight times the average."""
_SPREAD: Final = 4
_NORMALISATION: Final = 2

_SAMPLE_BYTES: Final = 1 << 18
_SAMPLE_AVERAGE: Final = 4096
SAMPLE_CUTS: Final = "fdd1b60bd83ce86db058bf1a6f254a79611c4f2a0803ad3b14a517f6e35edacc"
"""The sha256 of the lengths into which the sample is cut."""


def content_cuts(
    read: Read, offset: int, size: int, average: int
) -> Iterator[tuple[int, memoryview]]:
    """The offset and bytes of each piece of the ``size`` bytes that begin at ``offset``.

    The bytes are valid until the next piece is asked for. Raises ``InvalidSettings`` where the
    average is none that can be cut by, and ``MissingDependency`` without the library, or with one
    that cuts in another way.
    """
    check_average(average)
    if size:
        check_library()
        for piece in _cutter(average).cut_stream(_Stretch(read, offset, size)):
            yield offset + piece.offset, piece.data


def check_average(average: int) -> None:
    """Raise ``InvalidSettings`` unless content can be cut into pieces of that average."""
    if not SMALLEST_AVERAGE <= average <= LARGEST_AVERAGE:
        raise InvalidSettings(
            f"pieces of {average} bytes on average cannot be cut by content: the manifest's "
            f"chunking.piece must be {SMALLEST_AVERAGE} to {LARGEST_AVERAGE}"
        )


@functools.cache
def check_library() -> None:
    """Raise ``MissingDependency`` unless the library cuts a sample where it always did."""
    sample = hashlib.shake_128(b"noyau cuts by content").digest(_SAMPLE_BYTES)
    lengths = [piece.length for piece in _cutter(_SAMPLE_AVERAGE).cut_buf(sample)]
    if hashlib.sha256(repr(lengths).encode()).hexdigest() != SAMPLE_CUTS:
        raise MissingDependency(
            "the installed pyfastcdc cuts in another way than noyau's manifests are made with, "
            "so that nothing would be found: pip install --force-reinstall 'noyau[storage]'"
        )


def _cutter(average: int) -> FastCDC:
    try:
        from pyfastcdc import FastCDC
    except ImportError as error:
        raise MissingDependency(
            "pyfastcdc, which cuts files by their content, is not installed: "
            "pip install 'noyau[storage]'"
        ) from error
    return FastCDC(
        average, min_size=average // _SPREAD, max_size=average * _SPREAD,
        normalized_chunking=_NORMALISATION, seed=0,
    )  # fmt: skip


class _Stretch:
    """A region as the stream that the library reads."""

    def __init__(self, read: Read, offset: int, size: int) -> None:
        self._read = read
        self._at = offset
        self._end = offset + size

    def readinto(self, into: memoryview, /) -> int:
        """Fill as much of ``into`` as there is; 0 at the end."""
        count = min(len(into), self._end - self._at, READ_BYTES)
        into[:count] = self._read(self._at, count)
        self._at += count
        return count
