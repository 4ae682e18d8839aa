"""How the trust code gets bytes: one function, with bounds in size and time around it.

    Workflow ──► BoundedFetcher ──► Download ──► file: a folder or stick · http: a web client

Nothing of what comes is believed here; only too much and too slow are cut.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from actors.storage.manifest import MOST_BYTES
from actors.storage.sources.interface import PIECE_BYTES, NotThere
from actors.storage.sources.interface import Cancelled as IsCancelled
from protocol.clock import Clock
from protocol.errors import AssetUnavailable, Cancelled

TARGET_MAX_BYTES: Final = MOST_BYTES
"""Our only target is a manifest. It is held in memory while it is downloaded."""
SLOWEST_BYTES_PER_S: Final = 10_000
"""A third of EDGE, the slowest line in use: what signed lengths are given as time at the least."""


class Download(Protocol):
    """Gets what lies at an address, in pieces.

    Must end by itself when nothing moves, and ask ``cancelled`` several times a second. May give
    more than ``most`` bytes, which are refused; the number is there so that it need not. Whoever
    stops early closes the generator. Raises ``NotThere`` where the place answers that it has
    nothing of that name, ``AssetCorrupt`` for an answer that cannot be one, ``AssetUnavailable``
    for everything else, and ``Cancelled``.
    """

    def __call__(
        self, url: str, most: int, cancelled: IsCancelled, /
    ) -> Generator[bytes, None, None]:
        """The pieces of what lies at ``url``."""
        ...


class Getter(Protocol):
    """What a web client must have to be a `Download`."""

    def get(self, url: str, *, most: int, cancelled: IsCancelled) -> Generator[bytes, None, None]:
        """The body of a successful answer. Raises as `Download` does, and may raise
        ``AssetCorrupt`` for an answer that contradicts itself or is longer than ``most`` bytes."""
        ...


def from_anywhere(web: Getter) -> Download:
    """A `Download` for ``http:``, ``https:`` and, for machines without a network, ``file:``."""

    def download(url: str, most: int, cancelled: IsCancelled) -> Generator[bytes, None, None]:
        scheme = _parts(url).scheme
        if scheme == "file":
            yield from read_file_url(url, most, cancelled)
        elif scheme in ("http", "https"):
            yield from web.get(url, most=most, cancelled=cancelled)
        else:
            raise AssetUnavailable(f"{url} is no address: it must begin with https: or file:")

    return download


def read_file_url(url: str, most: int, cancelled: IsCancelled) -> Generator[bytes, None, None]:
    """A `Download` for files of this machine: a stick, a share that is mounted."""
    parts = _parts(url)
    if parts.netloc not in ("", "localhost"):
        raise AssetUnavailable(f"{url} names another machine; a file: URL begins with file:///")
    path = Path(unquote(parts.path))
    try:
        # Not blocking: a FIFO would make the opening wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotThere(f"there is no {path}") from None
    except (OSError, ValueError) as error:
        raise AssetUnavailable(f"{path} cannot be read: {error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise AssetUnavailable(f"{path} is no file")
        left = most + 1
        while left and (piece := _read(descriptor, min(left, PIECE_BYTES), path)):
            if cancelled():
                raise Cancelled(f"reading {path} was cancelled")
            left -= len(piece)
            yield piece
    finally:
        os.close(descriptor)


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise AssetUnavailable(f"{url} is no address: {error}") from None


def _read(descriptor: int, size: int, path: Path) -> bytes:
    try:
        return os.read(descriptor, size)
    except OSError as error:
        # Of the repository's disk, not of ours.
        raise AssetUnavailable(f"{path} cannot be read: {error.strerror}") from error


class BoundedFetcher(FetcherInterface):
    """What python-tuf downloads with: a `Download`, cut at a length and at a moment.

    The library's own way writes each answer to a temporary file wherever the machine has those.
    Here they stay in memory, for they are small: metadata is bounded by the library's settings
    (5 MB at most), a manifest by `TARGET_MAX_BYTES`.

    Args:
        within_s: seconds for all downloads of this fetcher together, but for what is allowed
            beside. A server that sends a byte a second, or a new root for ever, is given up then.
    """

    def __init__(
        self, download: Download, within_s: float, clock: Clock, cancelled: IsCancelled
    ) -> None:
        self._download = download
        self._within_s = within_s
        self._clock = clock
        self._until = clock.now() + within_s
        self._cancelled = cancelled

    def allow(self, size: int) -> None:
        """Give more time: what ``size`` bytes, a signed length, take on a slow line."""
        self._until += size / SLOWEST_BYTES_PER_S

    def _fetch(self, url: str) -> Iterator[bytes]:
        """What `FetcherInterface` asks of everyone; for those who know no length."""
        return self._download(url, TARGET_MAX_BYTES, self._cancelled)

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """See `FetcherInterface.download_file`, which ``download_bytes`` is made of, too.

        noyau's own errors pass through python-tuf as they are.
        """
        held = io.BytesIO()
        try:
            with closing(self._download(url, max_length, self._cancelled)) as pieces:
                for piece in pieces:
                    self._check_time(url)
                    if held.tell() + len(piece) > max_length:
                        raise DownloadLengthMismatchError(
                            f"{url} is longer than the {max_length} bytes that it may have"
                        )
                    held.write(piece)
        except NotThere as error:
            raise DownloadHTTPError(error.message, 404) from error
        held.seek(0)
        yield held

    def _check_time(self, url: str) -> None:
        if self._cancelled():
            raise Cancelled(f"downloading {url} was cancelled")
        if self._clock.now() >= self._until:
            raise AssetUnavailable(
                f"{url} was still coming when the time for the whole update was over, which is "
                f"{self._within_s:g} s and what a manifest takes at {SLOWEST_BYTES_PER_S} bytes/s; "
                "try again, or use a faster network or mirror"
            )
