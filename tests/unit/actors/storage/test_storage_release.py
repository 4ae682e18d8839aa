"""Which files of a folder are published, and that none is left out in silence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.storage.publisher import prepare
from actors.storage.publishing import publish_new_bytes
from actors.storage.release import read_release
from protocol.errors import InvalidSettings, Overloaded
from tests.unit.actors.storage.test_storage_guardian import DATA, WATCH


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "a.bin").write_bytes(DATA)
    return folder


def link_to_a_folder(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "b.bin").write_bytes(DATA)
    (folder / "more").symlink_to("../elsewhere")


def link_to_nowhere(folder: Path) -> None:
    (folder / "more").symlink_to("nowhere")


def link_to_itself(folder: Path) -> None:
    (folder / "more").symlink_to("more")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "more")


def empty_file(folder: Path) -> None:
    (folder / "more").touch()


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (link_to_a_folder, "more: a link to a folder"),
        (link_to_nowhere, "more: a link that leads nowhere"),
        (link_to_itself, "more: a link that leads nowhere"),
        (pipe, "more: no file"),
        (empty_file, "more: it is empty"),
    ],
)
def test_what_cannot_be_published_is_refused_by_its_name_and_not_left_out(
    release: Path, put: Callable[[Path], None], reason: str
) -> None:
    put(release)
    with pytest.raises(InvalidSettings, match=reason):
        read_release(release)


def test_a_folder_that_cannot_be_read_is_refused_by_its_name(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if os.path.basename(path) == "models":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    # Where root runs the tests no folder of the disk's refuses to be read.
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InvalidSettings, match="models: a folder that cannot be read"):
        read_release(release)


def test_a_file_whose_name_is_not_utf_8_is_refused_by_what_its_name_shows(release: Path) -> None:
    with open(os.fsencode(release) + b"/caf\xe9.bin", "wb") as file:
        file.write(DATA)
    with pytest.raises(InvalidSettings, match=r"caf\\xe9\.bin: its name is not UTF-8"):
        read_release(release)


def test_all_that_cannot_be_published_is_named_at_once(release: Path) -> None:
    link_to_nowhere(release)
    (release / "models" / "empty.bin").touch()
    with pytest.raises(InvalidSettings, match=r"(?s)2 of what.*models/empty\.bin.*more"):
        read_release(release)


def test_a_link_to_a_file_is_published_and_what_is_hidden_is_not(release: Path) -> None:
    (release / "b.bin").symlink_to("models/a.bin")
    (release / ".git").mkdir()
    (release / ".git" / "config").write_bytes(b"x")
    (release / ".nowhere").symlink_to("nowhere")
    assert read_release(release)[0] == ["b.bin", "models/a.bin"]


def test_a_file_in_the_place_of_the_folder_is_told(release: Path) -> None:
    with pytest.raises(InvalidSettings, match="is no folder"):
        read_release(release / "models" / "a.bin")


def test_a_description_that_is_a_folder_or_leads_nowhere_is_told(release: Path) -> None:
    (release / "publish.toml").symlink_to("nowhere")
    with pytest.raises(InvalidSettings, match=r"publish\.toml: a link that leads nowhere"):
        read_release(release)
    (release / "publish.toml").unlink()
    (release / "publish.toml").mkdir()
    with pytest.raises(InvalidSettings, match=r"publish\.toml cannot be read: Is a directory"):
        read_release(release)


def test_files_that_the_version_before_had_are_named(release: Path, tmp_path: Path) -> None:
    (release / "b.bin").write_bytes(DATA)
    prepare(release, tmp_path / "out", lambda _: None, WATCH)
    (release / "b.bin").unlink()
    report = prepare(release, tmp_path / "out", lambda _: None, WATCH)
    assert (report.changed, report.removed) == ([], ["b"])


def test_a_file_that_was_moved_and_kept_its_name_is_not_gone(release: Path, tmp_path: Path) -> None:
    prepare(release, tmp_path / "out", lambda _: None, WATCH)
    (release / "models" / "a.bin").rename(release / "a.bin")
    assert prepare(release, tmp_path / "out", lambda _: None, WATCH).removed == []


def test_while_one_publishes_into_a_folder_another_is_refused_and_loses_nothing(
    release: Path, tmp_path: Path
) -> None:
    refused = []

    def sign(text: bytes) -> None:
        with pytest.raises(Overloaded, match="another `publish` is at work"):
            prepare(release, tmp_path / "out", lambda _: None, WATCH)
        refused.append(text)

    prepare(release, tmp_path / "out", sign, WATCH)
    assert refused
    assert prepare(release, tmp_path / "out", lambda _: None, WATCH).version == "2"


def test_what_a_publication_that_died_left_of_a_file_is_removed_by_the_next(
    release: Path, tmp_path: Path
) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    files = tmp_path / "out" / "files"
    files.mkdir(parents=True)
    # No process has this number: the kernel's largest is smaller.
    (files / f".{digest}.99999999.1.part").write_bytes(b"half")
    prepare(release, tmp_path / "out", lambda _: None, WATCH)
    assert sorted(path.name for path in files.iterdir()) == [digest]
    assert (files / digest / "a.bin").read_bytes() == DATA


def test_a_file_with_the_longest_name_that_there_is_can_be_published(
    release: Path, tmp_path: Path
) -> None:
    name = f"{'x' * 251}.bin"
    (release / name).write_bytes(DATA[:5000])
    prepare(release, tmp_path / "out", lambda _: None, WATCH)
    assert [path.name for path in (tmp_path / "out" / "files").glob("*/x*")] == [name]


def test_a_file_that_must_be_new_replaces_none(tmp_path: Path) -> None:
    publish_new_bytes(b"first", tmp_path / "it")
    with pytest.raises(FileExistsError):
        publish_new_bytes(b"second", tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
