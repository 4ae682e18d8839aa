"""Reading from a disk that is not as it should be. What every source promises is in the contract
suite."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from actors.storage.sources import FileSource, FileSpec, NotThere, Order
from protocol.errors import AssetUnavailable

CONTENT = bytes(range(256)) * 16_384


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file.bin"
    path.write_bytes(CONTENT)
    return path


def order(tmp_path: Path) -> Order:
    return Order("a", len(CONTENT), tmp_path, lambda _: None, lambda: False)


def read(path: Path, tmp_path: Path) -> bytes:
    spec = FileSpec(path=str(path))
    return b"".join(FileSource().read(spec, 0, len(CONTENT), order(tmp_path)))


def test_a_fifo_is_no_file_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(NotThere, match="no file"):
        read(fifo, tmp_path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="no file"):
        read(tmp_path, tmp_path)


def test_a_link_in_a_circle_cannot_be_had_however_often_it_is_asked_for(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(NotThere, match="cannot be read"):
        read(link, tmp_path)


def test_too_many_open_files_say_nothing_of_this_one(file: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(AssetUnavailable, match="Too many open files") as caught:
            read(file, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not isinstance(caught.value, NotThere)


def test_a_file_that_shrinks_while_it_is_read_is_unavailable(file: Path, tmp_path: Path) -> None:
    reading = FileSource().read(FileSpec(path=str(file)), 0, len(CONTENT), order(tmp_path))
    came = next(reading)
    os.truncate(file, len(came))
    with pytest.raises(AssetUnavailable, match=f"ended at byte {len(came)}"):
        next(reading)


def test_a_url_names_the_file_that_its_escapes_mean(file: Path) -> None:
    assert FileSpec.of_url(file.as_uri()).path == str(file)
    assert FileSpec.of_url("file:///srv/what%3F%23.bin").path == "/srv/what?#.bin"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("file://server/share/a.bin", "another machine"),
        ("file:a.bin", "absolute"),
        ("file:///a?b", "%3F"),
        ("file:///a#b", "%23"),
        ("file:///a%00b", "absolute"),
    ],
)
def test_a_url_that_would_name_another_file_than_it_seems_is_refused(
    url: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        FileSpec.of_url(url)
