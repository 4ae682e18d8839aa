"""Disks that fail and files that are not what was saved: told, moved aside, never handed out."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.storage.stored.folder import MOST_QUARANTINED
from actors.storage.stored.outcomes import FileQuarantined, FileStays, StrangersIgnored
from protocol.errors import AssetCorrupt, AssetUnavailable, DiskFull, NotFound
from tests.support.scripts import run_python
from tests.support.stored import OWNER, Bench

DATA = os.urandom(5000)
Harm = Callable[[Path], object]


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def link_outside(path: Path) -> None:
    outside = path.parents[2] / "outside"
    outside.write_bytes(DATA)
    path.unlink()
    path.symlink_to(outside)


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_socket(path: Path) -> None:
    path.unlink()
    # Its path may be too long for a socket, but not that of the folder it is made in.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s")
        Path("s").rename(path.name)
    finally:
        os.chdir(before)


HARMS: dict[str, Harm] = {
    "its first bit is flipped": lambda path: flip(path, 0),
    "its last bit is flipped": lambda path: flip(path, 4999),
    "it is cut short": lambda path: os.truncate(path, 4000),
    "it is empty": lambda path: os.truncate(path, 0),
    "something is behind it": lambda path: os.truncate(path, 5001),
    "it is a link that leads outside": link_outside,
    "it is a pipe": put_pipe,
    "it is a folder": put_folder,
    "it is a socket": put_socket,
}


@pytest.fixture
def it(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "files")


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
def test_what_is_not_what_was_saved_ends_in_its_error_and_is_moved_aside(
    it: Bench, harm: Harm
) -> None:
    it.save("a", DATA)
    it.save("b", DATA)
    path = it.path("a")
    harm(path)
    with pytest.raises(AssetCorrupt, match="is not what was saved") as caught:
        it.read("a")
    assert (caught.value.details["owner"], caught.value.details["name"]) == (OWNER, "a")
    (told,) = it.events
    assert isinstance(told, FileQuarantined)
    assert told.moved_to == it.folder / ".quarantine" / OWNER / path.name
    assert os.path.lexists(told.moved_to)
    assert not os.path.lexists(path)
    with pytest.raises(NotFound):
        it.read("a")
    assert it.used() == (5000, 1, 0)
    assert it.read("b") == DATA
    it.save("a", DATA)
    assert it.read("a") == DATA


@pytest.mark.parametrize(("offset", "size"), [(0, 10), (4000, 10), (4990, 100), (0, 0)])
@pytest.mark.parametrize("flipped", [5, 2000, 4995])
def test_a_range_ends_in_an_error_too_wherever_the_bit_is_flipped(
    it: Bench, offset: int, size: int, flipped: int
) -> None:
    it.save("a", DATA)
    flip(it.path("a"), flipped)
    with pytest.raises(AssetCorrupt, match="checksum"):
        it.read("a", offset, size)


def test_the_last_piece_comes_before_the_error_but_never_the_end(it: Bench) -> None:
    it.save("a", DATA)
    flip(it.path("a"), 1)
    reader = it.store.open(OWNER, "a")
    assert it.store.step(reader, 5000) is not None
    with pytest.raises(AssetCorrupt):
        it.store.step(reader, 5000)
    assert not reader.done


def test_a_file_that_vanished_is_told_as_lost(it: Bench) -> None:
    it.save("a", DATA)
    it.path("a").unlink()
    with pytest.raises(AssetCorrupt, match="not in its folder any more"):
        it.read("a")
    (told,) = it.events
    assert isinstance(told, FileQuarantined)
    assert told.moved_to is None
    assert it.used() == (0, 0, 0)


def test_a_file_that_is_cut_while_it_is_read_is_noticed(it: Bench) -> None:
    it.save("a", DATA)
    reader = it.store.open(OWNER, "a")
    it.store.step(reader, 100)
    os.truncate(it.path("a"), 2000)
    with pytest.raises(AssetCorrupt, match="ends after"):
        it.read_on(reader, 100)


def test_what_was_replaced_meanwhile_is_not_moved_aside_for_the_old_one(it: Bench) -> None:
    it.save("a", DATA)
    reader = it.store.open(OWNER, "a")
    flip(it.path("a"), 0)
    it.save("a", b"new")
    with pytest.raises(AssetCorrupt):
        it.read_on(reader)
    assert it.read("a") == b"new"
    assert it.events == []


def test_of_the_damaged_files_of_an_owner_the_latest_few_are_kept(it: Bench) -> None:
    names = []
    for number in range(MOST_QUARANTINED + 3):
        it.save("a", b"%d" % number)
        names.append(it.path("a").name)
        flip(it.path("a"), 0)
        with pytest.raises(AssetCorrupt):
            it.read("a")
    kept = {path.name for path in (it.folder / ".quarantine" / OWNER).iterdir()}
    assert kept == set(names[3:])


def test_what_storage_did_not_put_there_is_told_and_left_alone(it: Bench) -> None:
    it.save("a", DATA)
    (it.folder / OWNER / "notes.txt").write_text("mine")
    (it.folder / OWNER / "old").mkdir()
    (it.folder / "My Folder").mkdir()
    it.restart()
    assert it.read("a") == DATA
    assert [type(event) for event in it.events] == [StrangersIgnored, StrangersIgnored]
    assert {event.count for event in it.events if isinstance(event, StrangersIgnored)} == {1, 2}
    assert (it.folder / OWNER / "notes.txt").read_text() == "mine"


# --- folders that lead outside --------------------------------------------------------------


def test_an_owners_folder_that_became_a_link_is_neither_read_nor_written(
    it: Bench, tmp_path: Path
) -> None:
    it.save("a", DATA)
    outside = tmp_path / "outside"
    (it.folder / OWNER).rename(outside)
    (it.folder / OWNER).symlink_to(outside)
    before = sorted(path.name for path in outside.iterdir())
    for act in (
        lambda: it.read("a"),
        lambda: it.save("b", DATA),
        lambda: it.store.delete(OWNER, "a"),
    ):
        with pytest.raises(AssetUnavailable, match="is a link"):
            act()
    assert sorted(path.name for path in outside.iterdir()) == before
    it.restart()
    assert it.store.owners == []
    assert isinstance(it.events[-1], StrangersIgnored)


def test_no_upload_goes_through_a_link_in_place_of_the_staging_folder(
    it: Bench, tmp_path: Path
) -> None:
    it.store.close()
    (it.folder / ".staging").rmdir()
    (it.folder / ".staging").symlink_to(tmp_path)
    with pytest.raises(AssetUnavailable, match="is a link") as caught:
        it.open()
    (it.folder / ".staging").unlink()
    # What failed has let go of the folder, also while its error is kept.
    it.open()
    del caught


def test_a_start_that_fails_does_not_keep_the_folder_from_the_next_try(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.save("a", DATA)
    it.store.close()

    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", fail)
        with pytest.raises(AssetUnavailable, match="did not do its part") as caught:
            it.open()
    it.open()
    del caught
    assert it.read("a") == DATA


def test_nothing_is_moved_aside_through_a_link(it: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (it.folder / ".quarantine").symlink_to(outside)
    it.save("a", DATA)
    flip(it.path("a"), 0)
    for _ in range(2):
        with pytest.raises(AssetCorrupt):
            it.read("a")
    assert list(outside.iterdir()) == []
    assert [type(event) for event in it.events] == [FileStays, FileStays]
    (it.folder / ".quarantine").unlink()
    with pytest.raises(AssetCorrupt):
        it.read("a")
    assert it.store.find(OWNER, "a") is None


# --- disks that do not do their part --------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error", "remedy"),
    [
        (errno.ENOSPC, DiskFull, "Free some space"),
        (errno.EDQUOT, DiskFull, "Free some space"),
        (errno.EFBIG, DiskFull, "ulimit -f"),
        (errno.EROFS, AssetUnavailable, "not read-only"),
        (errno.EIO, AssetUnavailable, "did not do its part"),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_write_that_fails_in_the_middle_leaves_the_old_file_and_nothing_else(
    it: Bench, number: int, error: type[Exception], remedy: str, at: int
) -> None:
    it.save("a", b"old")
    plain, writes = it.write, 0

    def write(descriptor: int, data: memoryview) -> int:
        """A few bytes at a time, as on a disk that is nearly full."""
        nonlocal writes
        if writes == at:
            raise OSError(number, os.strerror(number))
        writes += 1
        return plain(descriptor, data[:1000])

    it.write = write
    with pytest.raises(error, match=remedy):
        it.part("u", "a", 0, DATA, size=6000)
    assert it.read("a") == b"old"
    assert it.staged() == []
    assert it.used() == (3, 1, 0)
    it.write = plain
    with pytest.raises(NotFound):
        it.part("u", "a", 5000, b"x" * 1000, whole=DATA + b"x" * 1000)
    it.save("a", DATA)
    assert it.read("a") == DATA


def test_a_disk_that_writes_a_little_at_a_time_writes_all(it: Bench) -> None:
    it.write = lambda descriptor, data: os.write(descriptor, data[:7])
    it.save("a", DATA)
    assert it.read("a") == DATA


LIMITED = """
import resource, sys
from pathlib import Path
from protocol.errors import DiskFull
from tests.support.stored import Bench

it = Bench(Path(sys.argv[1]))
it.save("a", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    it.save("a", bytes(200_000))
except DiskFull as error:
    print(error.code, it.read("a"), it.staged(), it.used())
it.save("a", bytes(100_000))
print(len(it.read("a")))
"""


def test_a_limit_of_the_system_on_file_sizes_is_told_as_such(tmp_path: Path) -> None:
    assert run_python(LIMITED, tmp_path / "files").splitlines() == [
        "disk_full b'old' [] (3, 1, 0)", "100000",
    ]  # fmt: skip


needs_permissions = pytest.mark.skipif(
    os.geteuid() == 0, reason="the superuser may write into any folder"
)


@contextlib.contextmanager
def read_only(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file system that has become read-only, as far as renaming and removing go."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with patch.context() as patched:
        for name in ("unlink", "replace", "rename"):
            patched.setattr(Path, name, refuse)
        yield


def test_a_file_system_that_became_read_only_fails_what_writes_and_reads_on(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.save("a", b"old")
    with read_only(monkeypatch):
        with pytest.raises(AssetUnavailable, match="not read-only"):
            it.save("a", DATA)
        with pytest.raises(AssetUnavailable, match="not read-only"):
            it.store.delete(OWNER, "a")
        assert it.read("a") == b"old"
    assert it.used() == (3, 1, 0)
    it.save("a", DATA)
    it.restart()
    assert it.read("a") == DATA
    assert it.staged() == []


@needs_permissions
def test_a_read_only_folder_is_told_with_what_to_do(it: Bench) -> None:
    it.save("a", b"old")
    (it.folder / OWNER).chmod(0o500)
    try:
        with pytest.raises(AssetUnavailable, match="the user's own"):
            it.save("a", DATA)
        assert it.read("a") == b"old"
    finally:
        (it.folder / OWNER).chmod(0o700)
    it.save("a", DATA)
    assert it.read("a") == DATA


def test_an_old_revision_that_cannot_be_removed_is_no_error_and_goes_later(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.save("a", b"old")
    stubborn = it.path("a")
    plain = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == stubborn:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        plain(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        it.save("a", b"new")
        assert [type(event) for event in it.events] == [FileStays]
        with pytest.raises(AssetUnavailable):
            it.store.delete(OWNER, "a")
    assert it.read("a") == b"new"
    assert len(it.on_disk()) == 2
    it.store.delete(OWNER, "a")
    assert it.on_disk() == []


def test_an_expired_file_that_cannot_be_removed_keeps_no_other_on_the_disk(it: Bench) -> None:
    for name in ("a", "b", "c"):
        it.save(name, DATA, ttl_s=10)
    stubborn = it.path("b")
    put_folder(stubborn)
    it.times.wall += 11
    for _ in range(2):
        with pytest.raises(AssetUnavailable, match="did not do its part"):
            it.store.collect()
        assert it.on_disk() == [stubborn.name]
    assert it.used() == (5000, 1, 0)
    stubborn.rmdir()
    assert it.store.collect() == 1
    assert it.used() == (0, 0, 0)


def test_a_publication_that_does_not_reach_the_disk_has_not_happened(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.save("a", b"old")
    with monkeypatch.context() as patch:

        def fail(folder: Path) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patch.setattr("actors.storage.publishing.fsync_folder", fail)
        with pytest.raises(AssetUnavailable):
            it.save("a", DATA)
    assert it.read("a") == b"old"
    it.restart()
    assert it.read("a") == b"old"
    assert len(it.on_disk()) == 1
