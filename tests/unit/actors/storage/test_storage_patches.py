"""Patches: they make the new file out of the old one, and nothing else out of anything."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from actors.storage import patches
from actors.storage.patches import apply_patch, can_patch, make_patch, memory_needed
from benchmarks.gguf_edits import EDITS
from benchmarks.gguf_model import synthetic
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled, MissingDependency
from tests.support.model_files import noise

OLD = noise("old", 300_000)
NEW = OLD[:100_000] + b"inserted" + OLD[150_000:] + OLD[:10_000]


class Files:
    """A folder with an old file, a new one and a patch."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new, self.patch = (folder / name for name in ("old", "new", "patch"))
        self.old.write_bytes(OLD)
        self.new.write_bytes(NEW)

    def make(self) -> int:
        with self.patch.open("wb") as out:
            return make_patch(self.old, self.new, out)

    def apply(self, size: int = len(NEW)) -> bytes:
        out = Collecting()
        try:
            apply_patch(self.old, self.patch, out, size)
        finally:
            assert len(out.content) <= size
        return bytes(out.content)


class Collecting:
    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, piece: bytes) -> None:
        self.content += piece


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_patch_makes_the_new_file_out_of_the_old_one(files: Files) -> None:
    size = files.make()
    assert size == files.patch.stat().st_size < 1000
    assert files.apply() == NEW


@given(st.binary(min_size=8, max_size=5_000), st.binary(min_size=1, max_size=5_000))
def test_any_file_can_be_made_out_of_any_other(
    tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes
) -> None:
    files = Files(tmp_path_factory.mktemp("files"))
    files.old.write_bytes(old)
    files.new.write_bytes(new)
    files.make()
    assert files.apply(len(new)) == new


@pytest.mark.parametrize("name", EDITS)
def test_a_patch_is_smaller_than_what_changed_in_a_model(name: str, tmp_path: Path) -> None:
    files, model = Files(tmp_path), synthetic(4 << 20)
    changed, data_bytes = EDITS[name](model)
    model.write(files.old)
    changed.write(files.new)
    assert files.make() < data_bytes + 8_000
    assert files.apply(files.new.stat().st_size) == files.new.read_bytes()


def test_a_patch_for_another_file_is_refused(files: Files) -> None:
    files.make()
    for other in (OLD[:-1], noise("other", len(OLD)), OLD[::-1]):
        files.old.write_bytes(other)
        with pytest.raises(AssetCorrupt, match="no patch for"):
            files.apply()


@pytest.mark.parametrize("size", [1, len(NEW) - 1, len(NEW) + 1, 1 << 30])
def test_a_patch_that_makes_a_file_of_another_size_is_refused_before_it_is_applied(
    size: int, files: Files
) -> None:
    files.make()
    with pytest.raises(AssetCorrupt, match="does not make"):
        files.apply(size)


def test_a_patch_cut_short_anywhere_is_refused(files: Files) -> None:
    files.make()
    whole = files.patch.read_bytes()
    for size in range(len(whole)):
        files.patch.write_bytes(whole[:size])
        with pytest.raises(AssetCorrupt):
            files.apply()


def test_a_patch_with_any_byte_changed_is_refused(files: Files) -> None:
    files.make()
    whole, rng = files.patch.read_bytes(), random.Random(3)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << rng.randrange(8)
        files.patch.write_bytes(changed)
        with pytest.raises(AssetCorrupt):
            files.apply()


@pytest.mark.parametrize("more", [b"x", zstd.compress(b"another frame"), bytes(1 << 18)])
def test_a_patch_that_goes_on_after_its_end_is_refused(more: bytes, files: Files) -> None:
    files.make()
    files.patch.write_bytes(files.patch.read_bytes() + more)
    with pytest.raises(AssetCorrupt, match="goes on"):
        files.apply()


@pytest.mark.parametrize(
    "patch",
    [
        b"",
        b"no patch",
        zstd.compress(b""),
        b"\x50\x2a\x4d\x18\x04\0\0\0skip",
        zstd.compress(NEW, options={zstd.CompressionParameter.content_size_flag: 0}),
    ],
)
def test_what_is_no_patch_is_refused(patch: bytes, files: Files) -> None:
    files.patch.write_bytes(patch)
    with pytest.raises(AssetCorrupt):
        files.apply()


def frame(size: int, window: int, blocks: bytes) -> bytes:
    """A zstd frame that claims a content size and a window (its descriptor byte)."""
    return b"\x28\xb5\x2f\xfd\xc0" + bytes([window]) + size.to_bytes(8, "little") + blocks


def repeated(count: int, last: bool) -> bytes:
    """A block that is one byte, ``count`` times."""
    return (count << 3 | 1 << 1 | last).to_bytes(3, "little") + b"x"


def test_a_bomb_makes_no_more_than_the_file_should_have(files: Files) -> None:
    blocks = repeated(128 << 10, last=False) * 5000 + repeated(1, last=True)
    files.patch.write_bytes(frame(len(NEW), 0x38, blocks))
    with pytest.raises(AssetCorrupt):
        files.apply()


def test_no_more_comes_out_than_wanted_of_a_frame_that_does_not_say_how_much_it_holds(
    files: Files,
) -> None:
    unsaid: dict[int, int] = {zstd.CompressionParameter.content_size_flag: 0}
    files.patch.write_bytes(zstd.compress(bytes(10 << 20), options=unsaid))
    taken: list[bytes] = []
    with files.patch.open("rb") as patch:
        pieces = patches._decompressed(zstd.ZstdDecompressor(), b"", patch, 3 << 20)
        with pytest.raises(AssetCorrupt, match="more than"):
            taken.extend(pieces)
    assert sum(map(len, taken)) == 3 << 20


def test_a_window_larger_than_both_files_is_refused_without_taking_its_memory(
    files: Files,
) -> None:
    files.patch.write_bytes(frame(len(NEW), 0x70, repeated(1, last=True)))
    with pytest.raises(AssetCorrupt, match="memory"):
        files.apply()


def test_only_files_within_the_limits_can_be_patched(files: Files) -> None:
    most = patches.LARGEST_BYTES
    assert can_patch(8, most)
    assert can_patch(most, 1)
    for old_size, new_size in ((7, 1), (8, 0), (most + 1, 1), (8, most + 1)):
        assert not can_patch(old_size, new_size)
    with files.old.open("wb") as old:
        old.truncate(most + 1)
    with pytest.raises(AssetUnavailable, match="no patch from"):
        files.make()
    files.old.write_bytes(OLD)
    files.make()
    with pytest.raises(AssetUnavailable, match="no patch from"):
        files.apply(most + 1)


def test_memory_grows_with_the_files_and_not_faster() -> None:
    most = patches.LARGEST_BYTES
    assert memory_needed(most, most) < 2.4 * most


def test_making_and_applying_end_when_they_are_cancelled(files: Files) -> None:
    files.make()
    with pytest.raises(Cancelled):
        make_patch(files.old, files.new, Collecting(), lambda: True)
    with pytest.raises(Cancelled):
        apply_patch(files.old, files.patch, Collecting(), len(NEW), lambda: True)


def test_a_missing_library_is_an_error_that_names_the_extra(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "_MODULE", "no_such_library")
    with pytest.raises(MissingDependency, match=r"noyau\[storage\]"):
        files.make()
