"""How bytes come: from the web, from a stick, and no more of them than may."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError

from actors.storage.publishing import never
from actors.storage.sources.interface import Cancelled as IsCancelled
from actors.storage.sources.interface import NotThere
from actors.storage.sources.web import Web
from actors.storage.trust.client import TrustedRepository
from actors.storage.trust.download import BoundedFetcher, from_anywhere, read_file_url
from protocol.clock import ManualClock
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled, Untrusted
from tests.support.trust import NEW, OLD, Stage

ANYWHERE = from_anywhere(Web())


def bytes_of(url: str, most: int = 1000, cancelled: IsCancelled = never) -> bytes:
    return b"".join(ANYWHERE(url, most, cancelled))


def test_a_file_url_is_read_up_to_one_byte_more_than_it_may_have(tmp_path: Path) -> None:
    (tmp_path / "a file%").write_bytes(b"x" * 100)
    url = (tmp_path / "a file%").as_uri()
    assert bytes_of(url, 1000) == bytes_of(url, 100) == b"x" * 100
    assert bytes_of(url, 10) == b"x" * 11
    assert bytes_of(url.replace("file://", "file://localhost"), 100) == b"x" * 100


def test_a_file_that_does_not_exist_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotThere):
        bytes_of((tmp_path / "nothing").as_uri())


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "loop"])
def test_what_is_no_file_is_unavailable_and_nobody_waits_for_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(path)
    with pytest.raises(AssetUnavailable) as caught:
        bytes_of(path.as_uri())
    assert not isinstance(caught.value, NotThere)


@pytest.mark.parametrize(
    "url",
    ["file://elsewhere/x", "ftp://h/x", "/srv/x", "", "javascript:x", "file:///a%00b", "http://["],
)
def test_an_address_that_leads_nowhere_is_unavailable(url: str) -> None:
    with pytest.raises(AssetUnavailable):
        bytes_of(url)


def test_reading_a_file_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(Cancelled):
        bytes_of((tmp_path / "file").as_uri(), cancelled=lambda: True)


def test_a_repository_on_a_stick_is_as_good_as_one_on_the_web(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "a stick")
    client = TrustedRepository(
        tmp_path / "client", stage.published.as_uri(), stage.first, read_file_url
    )
    assert client.refresh().manifest.content == OLD
    stage.repository.publish(NEW)
    assert client.refresh().manifest.content == NEW


# Bounds -----------------------------------------------------------------------------------------


class Source:
    """A `Download` of which the test sees whether it was closed."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.closed = False

    def __call__(self, url: str, most: int, cancelled: IsCancelled) -> Generator[bytes, None, None]:
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed = True


def fetched(source: Source, most: int = 10) -> bytes:
    return BoundedFetcher(source, 60, ManualClock(), never).download_bytes("http://h/x", most)


def test_pieces_are_put_together() -> None:
    assert fetched(Source(b"12345", b"", b"67890")) == b"1234567890"


def test_one_byte_too_many_ends_the_download_and_closes_the_connection() -> None:
    source = Source(b"12345", b"678901", b"never read")
    with pytest.raises(DownloadLengthMismatchError):
        fetched(source)
    assert source.closed


def test_a_large_target_has_the_time_that_it_takes_on_a_slow_line() -> None:
    clock = ManualClock()

    def slow(_url: str, _most: int, _: IsCancelled) -> Generator[bytes, None, None]:
        for _piece in range(10):
            clock.advance(10)
            yield b"x" * 100_000

    with pytest.raises(AssetUnavailable, match="60 s"):
        BoundedFetcher(slow, 60, clock, never).download_bytes("http://h/x", 1_000_000)
    patient = BoundedFetcher(slow, 60, clock, never)
    patient.allow(1_000_000)
    assert len(patient.download_bytes("http://h/x", 1_000_000)) == 1_000_000


def test_what_is_not_there_is_said_in_the_librarys_own_words() -> None:
    with pytest.raises(DownloadHTTPError) as caught:
        fetched(Source(NotThere("no such file")))
    assert caught.value.status_code == 404


def test_an_answer_that_contradicts_itself_is_no_update(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    corrupt = AssetCorrupt("the answer is longer than it says")
    client = TrustedRepository(tmp_path / "client", "http://h", stage.first, Source(corrupt))
    with pytest.raises(Untrusted, match="longer than it says"):
        client.refresh()
