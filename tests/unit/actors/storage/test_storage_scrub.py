"""The scrub: what the disk has spoiled is found, piece by piece, without anybody asking."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from actors.storage.background import next_to_scrub, times_from_json
from actors.storage.digests import digest_of
from actors.storage.index import PIECE_BYTES, read_index, write_index
from actors.storage.manifest import Asset, Manifest
from actors.storage.scrub import damaged
from actors.storage.scrubbing import Scrubbing
from actors.storage.sources import FileSpec
from actors.storage.store import AssetStore
from protocol.errors import Cancelled
from tests.support.sources import CountedSource, asset_of, chunked

CHUNK = 5000
DATA = random.Random(9).randbytes(3 * PIECE_BYTES + 1234)


def never() -> bool:
    return False


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, len(DATA)])
def test_a_file_that_is_right_has_no_damage_whatever_its_size(
    file: Path, size: int, direct: bool
) -> None:
    file.write_bytes(DATA[:size])
    assert damaged(file, chunked(DATA[:size], CHUNK), never, direct=direct) == []


@pytest.mark.parametrize("direct", [True, False])
def test_a_flipped_bit_is_found_in_its_piece_in_a_hundred_of_a_hundred(
    file: Path, direct: bool
) -> None:
    chunks, offsets = chunked(DATA, CHUNK), random.Random(1).sample(range(len(DATA)), 100)
    for offset in offsets:
        with file.open("r+b") as opened:
            opened.seek(offset)
            opened.write(bytes([DATA[offset] ^ (1 << offset % 8)]))
            opened.flush()
            os.fsync(opened.fileno())
            assert damaged(file, chunks, never, direct=direct) == [offset // CHUNK]
            opened.seek(offset)
            opened.write(DATA[offset : offset + 1])


def test_what_is_missing_at_the_end_is_damaged_and_what_is_too_much_is_not_looked_at(
    file: Path,
) -> None:
    chunks = chunked(DATA, CHUNK)
    file.write_bytes(DATA[: 10 * CHUNK + 1])
    assert damaged(file, chunks, never) == list(range(10, len(chunks)))
    file.write_bytes(DATA + b"more")
    assert damaged(file, chunks, never) == []


def test_every_byte_is_paced_and_the_scrub_ends_when_told_to(file: Path) -> None:
    paced: list[int] = []
    damaged(file, chunked(DATA, CHUNK), never, paced.append)
    assert sum(paced) == len(DATA)
    with pytest.raises(Cancelled):
        damaged(file, chunked(DATA, CHUNK), lambda: True)


def test_the_file_that_waits_longest_is_next_and_none_before_its_time() -> None:
    here = ["a", "b", "c"]
    assert next_to_scrub({}, here, 100, 10) == "a"
    assert next_to_scrub({"a": 95.0, "b": 80.0, "c": 90.0}, here, 100, 10) == "b"
    assert next_to_scrub({"a": 95.0, "b": 91.0, "c": 99.0}, here, 100, 10) is None
    assert next_to_scrub({}, [], 100, 10) is None


def test_a_time_that_has_yet_to_come_counts_as_never() -> None:
    assert next_to_scrub({"a": 95.0, "b": 1e9}, ["a", "b"], 100, 10) == "b"


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a": "x"}', b"\xff"])
def test_a_list_of_times_that_is_none_has_none(text: bytes) -> None:
    assert times_from_json(text) == {}


class Bench:
    """A store with some files, and a scrub that is told when to look."""

    def __init__(self, folder: Path, *assets: Asset) -> None:
        self.now = 1e6
        self.store = AssetStore(
            folder, Manifest(version="1", assets=assets), boot_id="boot",
            sources={"file": CountedSource()},
        )  # fmt: skip
        self.found: list[tuple[str, list[int]]] = []
        self.right: list[str] = []
        self.failed: list[str] = []
        self.scrubbing = Scrubbing(
            self.store, period_s=100, bytes_per_s=None,
            found=lambda asset, wrong: self.found.append((asset.name, wrong)),
            scrubbed=lambda asset: self.right.append(asset.name),
            failed=self.failed.append,
            wall=lambda: self.now,
        )  # fmt: skip

    def spoil(self, name: str, offset: int) -> None:
        with self.store.path_of(name).open("r+b") as opened:
            opened.seek(offset)
            [byte] = opened.read(1)
            opened.seek(offset)
            opened.write(bytes([byte ^ 1]))


@pytest.fixture
def bench(tmp_path: Path, file: Path) -> Bench:
    """Two files with the same bytes: of one the manifest names chunks, of the other it does not."""
    source = FileSpec(path=str(file))
    bench = Bench(
        tmp_path / "assets",
        asset_of(DATA, source, name="chunked", chunk_bytes=CHUNK),
        asset_of(DATA[:-1] + b"!", name="plain"),
    )
    bench.store.install("chunked")
    bench.store.path_of("plain").write_bytes(DATA[:-1] + b"!")
    return bench


def test_each_file_is_read_once_in_a_period(bench: Bench) -> None:
    assert [bench.scrubbing.turn() for _ in range(3)] == [True, True, False]
    assert sorted(bench.right) == ["chunked", "plain"]
    bench.now += 100
    assert bench.scrubbing.turn()


def test_damage_is_told_with_its_pieces_and_not_again_before_the_next_period(bench: Bench) -> None:
    bench.spoil("chunked", 7 * CHUNK)
    while bench.scrubbing.turn():
        pass
    assert bench.found == [("chunked", [7])]


def test_a_file_without_chunks_is_known_by_its_pieces_from_the_first_time_on(bench: Bench) -> None:
    while bench.scrubbing.turn():
        pass
    assert len(read_index(bench.store.layout, bench.store.manifest.asset("plain"))) == 4
    bench.spoil("plain", PIECE_BYTES)
    bench.now += 100
    while bench.scrubbing.turn():
        pass
    assert bench.found == [("plain", [1])]


def test_a_file_that_is_wrong_the_first_time_teaches_nothing(bench: Bench) -> None:
    bench.spoil("plain", 5)
    while bench.scrubbing.turn():
        pass
    assert bench.found == [("plain", [0])]
    assert read_index(bench.store.layout, bench.store.manifest.asset("plain")) == ()


@pytest.mark.parametrize(("number", "told"), [(errno.EIO, "found"), (errno.EACCES, "failed")])
def test_a_bad_spot_on_the_disk_is_damage_and_a_file_that_may_not_be_read_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", fail)
    bench.scrubbing.turn()
    assert len(getattr(bench, told)) == 1


def test_an_index_that_is_damaged_itself_is_none(bench: Bench) -> None:
    asset, layout = bench.store.manifest.asset("plain"), bench.store.layout
    pieces = [DATA[at : at + PIECE_BYTES] for at in range(0, len(DATA), PIECE_BYTES)]
    write_index(layout, asset, [digest_of(piece, "blake3") for piece in pieces])
    path = layout.index / f"{asset.sha256}.json"
    right = path.read_bytes()
    for spoiled in (right[:-5], right.replace(b"blake3-0", b"blake3-1"), b"", b"{}"):
        if spoiled != right:
            path.write_bytes(spoiled)
            assert read_index(layout, asset) == ()
    path.write_bytes(right)
    assert len(read_index(layout, asset)) == len(pieces)
