"""Cutting and hashing files on disk, and choosing how a published one is cut."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from actors.storage.chunking import best_chunking, chunks_of, cut, each_chunk
from actors.storage.chunking.choice import piece_for
from actors.storage.digests import digest_of
from actors.storage.manifest import Asset, Chunking
from benchmarks.gguf_model import synthetic
from protocol.errors import AssetUnavailable, Cancelled, InvalidSettings
from tests.support.model_files import ARRAY, gguf_file, noise, safetensors_file, strings

TENSORS = Chunking(method="tensors", piece=4096)
CONTENT = Chunking(method="content", piece=4096)
METHODS = [TENSORS, CONTENT, Chunking(method="fixed", piece=4096)]
WEIGHTS = {f"layer{n}": noise(f"layer{n}", 10_000 + n) for n in range(5)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_file(WEIGHTS))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """40 MB that take up none on the disk."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(40 << 20)
    return path


@pytest.mark.parametrize("chunking", METHODS)
@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_chunks_are_the_cuts_with_their_hashes(
    chunking: Chunking, algorithm: str, model: Path
) -> None:
    data = model.read_bytes()
    chunks = chunks_of(model, chunking, algorithm)
    assert [(chunk.offset, chunk.size) for chunk in chunks] == [
        *cut(lambda at, size: data[at : at + size], len(data), chunking)
    ]
    for chunk in chunks:
        piece = data[chunk.offset : chunk.offset + chunk.size]
        assert chunk.hash == digest_of(piece, algorithm)


@pytest.mark.parametrize("chunking", METHODS)
def test_an_open_file_has_the_same_chunks_and_keeps_its_position(
    chunking: Chunking, model: Path
) -> None:
    with model.open("rb") as file:
        file.seek(7)
        assert chunks_of(file.fileno(), chunking) == chunks_of(model, chunking)
        assert file.read(1) == model.read_bytes()[7:8]


def test_a_manifest_takes_the_chunks(model: Path) -> None:
    size = model.stat().st_size
    asset = Asset(
        path="model.gguf", size=size, hash="sha256-" + "0" * 64, chunking=TENSORS,
        chunks=chunks_of(model, TENSORS),
    )  # fmt: skip
    assert asset.chunks


@pytest.mark.parametrize("chunking", METHODS)
def test_an_empty_file_has_no_chunks(chunking: Chunking, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert chunks_of(path, chunking) == ()


def test_a_piece_larger_than_what_is_read_at_once_has_the_right_hash(tmp_path: Path) -> None:
    path, data = tmp_path / "file", noise("large", 11 << 20)
    path.write_bytes(data)
    chunks = chunks_of(path, Chunking(method="fixed", piece=10 << 20))
    assert [chunk.hash for chunk in chunks] == [
        digest_of(data[: 10 << 20], "blake3"),
        digest_of(data[10 << 20 :], "blake3"),
    ]


@pytest.mark.parametrize("method", ["tensors", "content", "fixed"])
def test_memory_does_not_grow_with_the_file(method: str, large: Path) -> None:
    chunking = Chunking.model_validate({"method": method, "piece": 1 << 16})
    tracemalloc.start()
    try:
        for _ in each_chunk(large, chunking):
            pass
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_progress_ends_at_the_whole_and_never_goes_back(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    # The header is read twice: for the tensors in it, then to cut it.
    words = strings(["a word of twenty bytes"] * 300_000)
    model.write_bytes(gguf_file(WEIGHTS, [("words", ARRAY, words)]))
    told: list[tuple[int, int]] = []
    chunks_of(model, TENSORS, report=lambda done, total: told.append((done, total)))
    size = model.stat().st_size
    assert told == sorted(told)
    assert told[-1] == (size, size)


def test_cutting_ends_when_it_is_cancelled(large: Path) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    with pytest.raises(Cancelled, match="large"):
        chunks_of(large, TENSORS, cancelled=cancelled)


@pytest.mark.parametrize("method", ["tensors", "content", "fixed"])
def test_a_file_that_is_cut_short_meanwhile_is_an_error_that_says_so(
    method: str, large: Path
) -> None:
    chunking = Chunking.model_validate({"method": method, "piece": 1 << 16})

    def cut_short(done: int, total: int) -> None:
        if done:
            os.truncate(large, done + 1000)

    with pytest.raises(AssetUnavailable, match="another program writes to it"):
        chunks_of(large, chunking, report=cut_short)


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(AssetUnavailable, match="no regular file"):
            chunks_of(path, TENSORS)
    with pytest.raises(FileNotFoundError):
        chunks_of(tmp_path / "nothing", TENSORS)


def test_no_descriptor_stays_open_when_nobody_wants_the_rest(large: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    chunks = each_chunk(large, TENSORS)
    next(chunks)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    chunks.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_pieces_that_no_file_can_be_cut_into_are_refused(model: Path) -> None:
    with pytest.raises(InvalidSettings, match="piece"):
        chunks_of(model, Chunking(method="content", piece=17))


@pytest.mark.parametrize(
    ("size", "piece"),
    [
        (0, 64),
        (98 << 20, 64),
        (511 << 20, 64),
        (512 << 20, 128),
        (5 << 30, 1024),
        (100 << 30, 1024),
    ],
)
def test_a_file_has_a_few_thousand_pieces(size: int, piece: int) -> None:
    assert piece_for(size) == piece << 10


def test_a_model_is_cut_by_its_tensors_and_another_file_by_content(tmp_path: Path) -> None:
    files = {
        "gguf": (gguf_file(WEIGHTS), "tensors"),
        "safetensors": (safetensors_file(WEIGHTS), "tensors"),
        "other": (noise("other", 50_000), "content"),
        "tiny tensors": (gguf_file({f"t{n}": b"x" for n in range(500)}), "content"),
    }
    for name, (data, method) in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert best_chunking(path, len(data)).method == method, name


def test_the_piece_of_the_version_before_is_kept_where_the_method_fits(model: Path) -> None:
    size = model.stat().st_size
    assert best_chunking(model, size, TENSORS) == TENSORS
    assert best_chunking(model, size, CONTENT) == Chunking(method="tensors", piece=64 << 10)


def test_the_list_of_pieces_of_a_model_is_small(tmp_path: Path) -> None:
    path = synthetic(64 << 20).write(tmp_path / "model.gguf")
    size = path.stat().st_size
    chunking = best_chunking(path, size)
    count = len(chunks_of(path, chunking))
    assert chunking == Chunking(method="tensors", piece=64 << 10)
    assert count * 110 < size / 400
