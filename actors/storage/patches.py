"""What makes a new version of a file out of an old one: zstd with the old file as its dictionary.

    old ──┐                      old ──┐
    new ──┴─► make_patch ──► patch ────┴─► apply_patch ──► new

One zstd frame that has its content size and checksum in it, as ``zstd --patch-from`` writes it. A
patch is trusted no more than any other delivery: whatever is in it, no more bytes come out than the
new file has, and no more memory is taken than `memory_needed` says. Whoever applies one hashes what
came out; what was written before an error is worth nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled, MissingDependency

if TYPE_CHECKING:
    from backports.zstd import ZstdDecompressor

_MODULE: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"

LARGEST_BYTES: Final = 1 << 30
"""Of either version: zstd looks back 2 GiB at most, which must hold both."""
_SMALLEST_OLD: Final = 8
"""Bytes of the smallest dictionary that zstd takes."""
PIECE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 17
_MORE_BYTES: Final = 64 << 20
_LEVEL: Final = 9
"""Measured on updates of a model of 98 MB: 12 saves 1 % and takes three times as long; 19 misses
what lies far away, and some patches become nearly as large as the file."""
_LONGEST_HEADER: Final = 18
_SMALLEST_WINDOW_LOG: Final = 10


class Sink(Protocol):
    """Where the new file goes."""

    def write(self, piece: bytes, /) -> object:
        """Take all of ``piece``."""
        ...


def memory_needed(old_size: int, new_size: int) -> int:
    """Bytes of memory that making a patch takes at most, between files of so many bytes.

    Measured: 2.3 GB where both have 1 GiB. Applying one takes the two files and 4 MiB.
    """
    tables = 1 << _window_log(old_size, new_size) >> 3
    return old_size + max(old_size, new_size) + tables + _MORE_BYTES


def can_patch(old_size: int, new_size: int) -> bool:
    """Whether there can be a patch between files of so many bytes."""
    return _SMALLEST_OLD <= old_size <= LARGEST_BYTES and 0 < new_size <= LARGEST_BYTES


def make_patch(
    old: Path, new: Path, out: Sink, cancelled: Callable[[], bool] = lambda: False
) -> int:
    """Write the patch that makes ``new`` out of ``old``; its size in bytes.

    Blocking: a second for 100 MB. Memory: see `memory_needed`.

    Raises:
        AssetUnavailable: a file is too small or too large to be patched, or changes meanwhile.
        Cancelled: as asked, at the latest after another MiB.
        MissingDependency: zstd is not installed.
        OSError: the disk failed.
    """
    zstd = _library()
    with old.open("rb") as old_file, new.open("rb") as new_file:
        old_size, new_size = _size(old_file), _size(new_file)
        _check_sizes(old, old_size, new_size)
        options = {
            zstd.CompressionParameter.compression_level: _LEVEL,
            zstd.CompressionParameter.window_log: _window_log(old_size, new_size),
            # Without it nothing is found that lies far from where it lay.
            zstd.CompressionParameter.enable_long_distance_matching: 1,
            zstd.CompressionParameter.checksum_flag: 1,
        }
        prefix = zstd.ZstdDict(_whole(old_file, old_size, cancelled), is_raw=True).as_prefix
        compressor = zstd.ZstdCompressor(options=options, zstd_dict=prefix)
        compressor.set_pledged_input_size(new_size)
        written = 0
        for piece in _pieces(new_file, new_size, cancelled):
            written += _write(out, compressor.compress(piece))
        return written + _write(out, compressor.flush())


def apply_patch(
    old: Path, patch: Path, out: Sink, size: int, cancelled: Callable[[], bool] = lambda: False
) -> None:
    """Write to ``out`` the file of ``size`` bytes that the patch makes of ``old``.

    Blocking: half a second for 100 MB. Memory: see `memory_needed`.

    Raises:
        AssetCorrupt: it is no patch, or damaged, or one for another file, or makes one of another
            size. Up to ``size`` bytes were written then, and are worth nothing.
        AssetUnavailable: a file is too small or too large to be patched, or changes meanwhile.
        Cancelled, MissingDependency, OSError: as in `make_patch`.
    """
    zstd = _library()
    with old.open("rb") as old_file, patch.open("rb") as patch_file:
        old_size = _size(old_file)
        _check_sizes(old, old_size, size)
        begin = patch_file.read(_READ_BYTES)
        try:
            if zstd.get_frame_info(begin[:_LONGEST_HEADER]).decompressed_size != size:
                raise AssetCorrupt(f"{patch} does not make a file of {size} bytes")
            options = {zstd.DecompressionParameter.window_log_max: _window_log(old_size, size)}
            prefix = zstd.ZstdDict(_whole(old_file, old_size, cancelled), is_raw=True).as_prefix
            decompressor = zstd.ZstdDecompressor(options=options, zstd_dict=prefix)
            for piece in _decompressed(decompressor, begin, patch_file, size):
                _stop_if(cancelled)
                _write(out, piece)
        except zstd.ZstdError as error:
            raise AssetCorrupt(f"{patch} is no patch for {old}: {error}") from error


def _decompressed(
    decompressor: ZstdDecompressor, begin: bytes, patch: BinaryIO, size: int
) -> Iterator[bytes]:
    """What comes out, in pieces of at most `PIECE_BYTES` and no more than ``size`` bytes."""
    data, left = begin, size
    while not decompressor.eof:
        piece = decompressor.decompress(data, min(PIECE_BYTES, left + 1))
        left -= len(piece)
        if left < 0:
            raise AssetCorrupt(f"{patch.name} makes more than the {size} bytes it should")
        yield piece
        data = patch.read(_READ_BYTES) if decompressor.needs_input else b""
        if decompressor.needs_input and not data:
            raise AssetCorrupt(f"{patch.name} was cut short")
    if decompressor.unused_data or patch.read(1):
        raise AssetCorrupt(f"{patch.name} goes on after its end")


def _window_log(old_size: int, new_size: int) -> int:
    """Of the smallest window that holds both."""
    return max((old_size + new_size - 1).bit_length(), _SMALLEST_WINDOW_LOG)


def _check_sizes(old: Path, old_size: int, new_size: int) -> None:
    if not can_patch(old_size, new_size):
        raise AssetUnavailable(
            f"there can be no patch from the {old_size} bytes of {old} to {new_size} bytes: they "
            f"must be {_SMALLEST_OLD} to {LARGEST_BYTES}. Use chunks instead"
        )


def _whole(file: BinaryIO, size: int, cancelled: Callable[[], bool]) -> bytearray:
    content = bytearray(size)
    at = 0
    for piece in _pieces(file, size, cancelled):
        content[at : at + len(piece)] = piece
        at += len(piece)
    return content


def _pieces(file: BinaryIO, size: int, cancelled: Callable[[], bool]) -> Iterator[bytes]:
    """The file's first ``size`` bytes. Read, not mapped: see `actors.storage.chunking.reading`."""
    left = size
    while left:
        _stop_if(cancelled)
        piece = file.read(min(PIECE_BYTES, left))
        if not piece:
            raise AssetUnavailable(
                f"{file.name} ended {left} bytes early while it was read: another program writes "
                "to it; try again once that is done"
            )
        left -= len(piece)
        yield piece


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("patching was cancelled")


def _write(out: Sink, piece: bytes) -> int:
    if piece:
        out.write(piece)
    return len(piece)


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _library() -> Any:
    try:
        return importlib.import_module(_MODULE)
    except ImportError as error:
        raise MissingDependency(
            "zstd, which patches are made of, is not installed: pip install 'noyau[storage]'"
        ) from error
