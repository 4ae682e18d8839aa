"""The updates that benchmarks fetch: they change what they say, and cost little more to fetch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest

from actors.storage.manifest import Chunking
from benchmarks.gguf_edits import BLOCK, EDITS, Edit, edits
from benchmarks.gguf_model import Model, read, synthetic
from benchmarks.updates import cost_of, ratio

PIECE = 4096


@pytest.fixture(scope="module")
def model() -> Model:
    return synthetic(4 << 20)


@pytest.fixture(scope="module")
def made(model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Edit]:
    return edits(tmp_path_factory.mktemp("edits"), model)


def blocks(data: bytes, step: int) -> Iterator[bytes]:
    return (data[at : at + BLOCK] for at in range(0, len(data) - BLOCK + 1, step))


@pytest.mark.parametrize("name", EDITS)
def test_what_an_edit_says_it_changed_is_what_the_old_file_lacks(
    name: str, made: dict[str, Edit]
) -> None:
    """Counted in another way: is this block of the new file anywhere in the old one?"""
    old, new = made[name].old.read_bytes(), made[name].new.read_bytes()
    have = set(blocks(old, BLOCK // 2))
    lacking = BLOCK * sum(not (each in have or each in old) for each in blocks(new, BLOCK))
    # Each changed stretch begins and ends within a block; the list of tensors has one for each.
    tensors = len(gguf.GGUFReader(made[name].new).tensors)
    assert abs(lacking - made[name].changed_bytes) < (4 + tensors) * BLOCK


def test_a_model_that_is_read_and_written_is_the_same(model: Model, tmp_path: Path) -> None:
    path = model.write(tmp_path / "model.gguf")
    assert read(path).write(tmp_path / "again.gguf").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", EDITS)
def test_an_update_costs_little_more_than_what_changed(name: str, made: dict[str, Edit]) -> None:
    edit = made[name]
    cost = cost_of(edit, Chunking(method="tensors", piece=PIECE))
    assert cost.pieces < edit.changed_bytes + 8 * PIECE
    assert ratio(edit, cost) < 1.2
