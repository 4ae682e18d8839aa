"""Reading files inside allowed folders, and no way out of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.tool_user.files import MAX_BYTES, read_text
from actors.tool_user.tools.read_file import match, read_file
from protocol.errors import InvalidRequest, NotAllowed, NotFound


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def test_a_file_in_an_allowed_folder_is_read(notes: Path) -> None:
    assert read_file(str(notes / "deep" / "a.txt"), allowed=[notes]) == "one\ntwo\nthree\n"


def test_a_relative_path_is_one_in_the_only_folder(notes: Path) -> None:
    assert read_file("deep/a.txt", allowed=[notes]) == "one\ntwo\nthree\n"


def test_a_range_of_lines_is_inclusive(notes: Path) -> None:
    assert read_file("deep/a.txt", 2, 3, allowed=[notes]) == "two\nthree\n"
    assert read_file("deep/a.txt", 3, allowed=[notes]) == "three\n"


def test_a_range_that_holds_no_line_is_an_error(notes: Path) -> None:
    with pytest.raises(InvalidRequest, match="3 lines"):
        read_file("deep/a.txt", 4, allowed=[notes])
    with pytest.raises(InvalidRequest, match="before"):
        read_file("deep/a.txt", 3, 2, allowed=[notes])


def test_an_empty_file_is_an_empty_text(notes: Path) -> None:
    (notes / "empty").touch()
    assert read_file("empty", allowed=[notes]) == ""


def test_without_an_allowed_folder_it_says_how_to_allow_one(notes: Path) -> None:
    with pytest.raises(NotAllowed, match=r"options\.read_file\.allowed = "):
        read_file(str(notes / "deep" / "a.txt"))


@pytest.mark.parametrize("path", ["../secret.txt", "deep/../../secret.txt", "/etc/passwd", "/"])
def test_a_path_out_of_the_folder_is_refused(notes: Path, path: str) -> None:
    with pytest.raises(NotAllowed):
        read_text(path, [notes], "setting")


def test_a_folder_whose_name_begins_alike_is_another_one(notes: Path) -> None:
    beside = notes.with_name("notes2")
    beside.mkdir()
    (beside / "a.txt").write_text("no")
    with pytest.raises(NotAllowed):
        read_text(str(beside / "a.txt"), [notes], "setting")


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_is_not_followed_wherever_it_is_on_the_way(notes: Path, link: str) -> None:
    if link == "file":
        (notes / "link").symlink_to(notes.parent / "secret.txt")
        path = "link"
    else:
        (notes / "link").symlink_to(notes.parent)
        path = "link/secret.txt"
    with pytest.raises(NotAllowed, match="link"):
        read_text(path, [notes], "setting")


def test_a_fifo_is_refused_and_not_waited_for(notes: Path) -> None:
    os.mkfifo(notes / "fifo")
    with pytest.raises(InvalidRequest, match="no regular file"):
        read_text("fifo", [notes], "setting")


def test_a_device_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no regular file"):
        read_text("/dev/zero", [Path("/dev")], "setting")


@pytest.mark.parametrize("path", ["deep", "."])
def test_a_folder_is_no_file(notes: Path, path: str) -> None:
    with pytest.raises(InvalidRequest, match="name a text file"):
        read_text(path, [notes], "setting")


def test_what_is_not_there_is_not_found(notes: Path) -> None:
    with pytest.raises(NotFound):
        read_text("deep/b.txt", [notes], "setting")
    with pytest.raises(InvalidRequest, match="Not a directory"):
        read_text("deep/a.txt/b", [notes], "setting")


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfe"], ids=["NUL", "no UTF-8"])
def test_what_is_no_text_is_refused(notes: Path, data: bytes) -> None:
    (notes / "binary").write_bytes(data)
    with pytest.raises(InvalidRequest, match=r"text$"):
        read_text("binary", [notes], "setting")


def test_a_file_that_is_too_large_is_refused_unread(notes: Path) -> None:
    with (notes / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InvalidRequest, match="at most"):
        read_text("large", [notes], "setting")


def test_only_an_order_with_a_path_is_matched() -> None:
    assert match("Please read the file notes/a.txt") == {"path": "notes/a.txt"}
    assert match("read me a story") is None
