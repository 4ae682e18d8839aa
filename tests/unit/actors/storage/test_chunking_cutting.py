"""Cutting a file by each method: it is tiled, alike for ever, and only near a change another."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.chunking import check_chunking, cut
from actors.storage.manifest import Chunking
from protocol.errors import InvalidSettings
from tests.support.model_files import (
    ARRAY,
    STRING,
    gguf_file,
    noise,
    safetensors_file,
    strings,
    text,
)

PIECE = 4096
TENSORS = Chunking(method="tensors", piece=PIECE)
CONTENT = Chunking(method="content", piece=PIECE)
FIXED = Chunking(method="fixed", piece=PIECE)
METHODS = [TENSORS, CONTENT, FIXED]

WORDS = [f"word{n}" for n in range(4000)]
WEIGHTS = {
    "embedding": noise("embedding", 30_000),
    **{f"norm{n}": noise(f"norm{n}", 200) for n in range(5)},
    **{f"layer{n}": noise(f"layer{n}", 9_000 + n) for n in range(5)},
}


def gguf(
    words: list[str] = WORDS, more: str = "", weights: dict[str, bytes] | None = None
) -> bytes:
    keys = [
        ("general.name", STRING, text("x" + more)),
        ("words", ARRAY, strings(words)),
        ("template", STRING, text("{{ message }}" * 500)),
    ]
    return gguf_file(WEIGHTS if weights is None else weights, keys)


def pieces(data: bytes, chunking: Chunking) -> list[bytes]:
    """The pieces of ``data``, having seen that they tile it."""

    def read(offset: int, size: int) -> bytes:
        assert 0 <= offset <= offset + size <= len(data)
        return data[offset : offset + size]

    found, end = [], 0
    for offset, size in cut(read, len(data), chunking):
        assert offset == end
        assert size > 0
        end += size
        found.append(data[offset:end])
    assert end == len(data)
    return found


def new_bytes(old: bytes, new: bytes, chunking: Chunking = TENSORS) -> int:
    """Bytes in pieces of ``new`` that are no pieces of ``old``."""
    have = set(pieces(old, chunking))
    return sum(len(piece) for piece in set(pieces(new, chunking)) - have)


@given(st.binary(max_size=30_000), st.sampled_from(METHODS))
def test_any_bytes_are_tiled(data: bytes, chunking: Chunking) -> None:
    pieces(data, chunking)


@given(st.binary(max_size=3_000), st.integers(0, 200), st.sampled_from(METHODS))
def test_anything_behind_a_magic_is_tiled(data: bytes, zeros: int, chunking: Chunking) -> None:
    pieces(b"GGUF\3\0\0\0" + data + bytes(zeros), chunking)
    pieces(len(data).to_bytes(8, "little") + b"{" + data, chunking)


@pytest.mark.parametrize("file", [gguf(WORDS[:50]), safetensors_file(WEIGHTS, format="pt")])
def test_a_header_with_any_bytes_flipped_is_tiled_in_bounded_time(file: bytes) -> None:
    rng = random.Random(7)
    header = len(file) - sum(map(len, WEIGHTS.values()))
    asked = 0

    def read(offset: int, size: int) -> bytes:
        nonlocal asked
        asked += size
        return file_now[offset : offset + size]

    for _ in range(1500):
        flipped = bytearray(file)
        for _ in range(rng.choice([1, 1, 2, 8])):
            flipped[rng.randrange(header)] = rng.choice(
                [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
            )
        file_now, asked, end = bytes(flipped), 0, 0
        for offset, size in cut(read, len(file_now), TENSORS):
            assert offset == end
            end += size
        assert end == len(file_now)
        assert asked <= 3 * len(file_now)


@pytest.mark.parametrize("most", [1, 10, 1000])
def test_a_file_cut_short_anywhere_is_tiled(most: int) -> None:
    for file in (gguf(WORDS[:20]), safetensors_file(WEIGHTS)):
        for size in range(0, min(len(file), 300 * most), most):
            pieces(file[:size], TENSORS)


@pytest.mark.parametrize("write", [gguf_file, safetensors_file])
def test_each_tensor_begins_a_piece(write: Callable[[dict[str, bytes]], bytes]) -> None:
    found = b"".join(pieces(write(WEIGHTS), TENSORS))
    begins = {piece[:32] for piece in pieces(write(WEIGHTS), TENSORS)}
    assert {raw[:32] for raw in WEIGHTS.values()} <= begins
    assert found == write(WEIGHTS)


def test_no_piece_of_a_tensor_is_larger_than_asked() -> None:
    assert max(map(len, pieces(gguf_file({"a": noise("a", 50_000)}), TENSORS))) == PIECE


def test_a_changed_tensor_is_all_that_is_new() -> None:
    changed = WEIGHTS | {"layer2": noise("other", len(WEIGHTS["layer2"]))}
    assert new_bytes(gguf(), gguf(weights=changed)) == 9_024  # with its padding


def test_a_key_more_costs_the_keys_beside_it() -> None:
    assert new_bytes(gguf(), gguf(more="y" * 1024)) < 1_300


def test_words_more_cost_the_ends_of_their_list() -> None:
    new = gguf(words=[*WORDS, "another", "word"])
    assert new_bytes(gguf(), new) < 4 * PIECE


def test_a_tensor_that_grows_costs_its_last_piece_and_the_list_of_tensors() -> None:
    grown = WEIGHTS | {"embedding": WEIGHTS["embedding"] + noise("rows", 1000)}
    assert new_bytes(gguf(), gguf(weights=grown)) < 1000 + PIECE + 1000


def test_tensors_in_another_order_cost_the_list_of_tensors() -> None:
    turned = dict(reversed(WEIGHTS.items()))
    assert new_bytes(gguf(), gguf(weights=turned)) < 1000
    assert new_bytes(safetensors_file(WEIGHTS), safetensors_file(turned)) < 1000


def test_a_byte_inserted_into_a_file_without_tensors_costs_a_few_pieces() -> None:
    data = noise("data", 400_000)
    changed = data[:200_000] + b"!" + data[200_000:]
    assert new_bytes(data, changed, CONTENT) < 6 * PIECE
    assert pieces(data, TENSORS) == pieces(data, CONTENT)


def test_equal_distances_are_cut_without_reading() -> None:
    def read(offset: int, count: int) -> bytes:
        raise AssertionError("equal distances need no bytes")

    assert next(cut(read, 1 << 40, FIXED)) == (0, PIECE)


GOLDEN = {
    ("gguf", "tensors"): "2f4610d0cd65",
    ("gguf", "content"): "8a965b40f111",
    ("gguf", "fixed"): "4ec7b703b678",
    ("safetensors", "tensors"): "59c03c6459fe",
    ("other", "tensors"): "aaecb332a946",
}


@pytest.mark.parametrize(("kind", "method"), GOLDEN)
def test_boundaries_are_where_they_always_were(kind: str, method: str) -> None:
    """If this fails, clients of other versions find nothing of what they have: cut as before, and
    give a new way to cut a new name."""
    files = {
        "gguf": gguf(),
        "safetensors": safetensors_file(WEIGHTS, format="pt") + noise("behind", 20_000),
        "other": noise("other", 300_000),
    }
    chunking = Chunking.model_validate({"method": method, "piece": PIECE})
    lengths = [len(piece) for piece in pieces(files[kind], chunking)]
    digest = hashlib.sha256(repr(lengths).encode()).hexdigest()
    assert digest.startswith(GOLDEN[kind, method])


@pytest.mark.parametrize(
    ("method", "piece"),
    [("tensors", 4095), ("content", 1), ("fixed", 1), ("tensors", 8 << 20), ("content", 8 << 20)],
)
def test_pieces_that_no_file_can_be_cut_into_are_refused(method: str, piece: int) -> None:
    chunking = Chunking.model_validate({"method": method, "piece": piece})
    with pytest.raises(InvalidSettings, match="piece"):
        check_chunking(chunking)
    with pytest.raises(InvalidSettings, match="piece"):
        pieces(b"data", chunking)
