"""From published weights to a GGUF file: names, tokens, and nothing half done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import save_file

from actors.memory.conversion import (
    convert,
    converted_path,
    gguf_name,
    gguf_tokens,
    sweep,
)
from actors.memory.reference import DIMENSION, cosine_to_reference
from protocol.errors import AssetCorrupt, EngineFailed

WORDS = ["[PAD]", "[CLS]", "[SEP]", "play", "##ing", "[", "##]"]


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    weights, vocabulary = tmp_path / "w.safetensors", tmp_path / "vocab.txt"
    tensors = {
        "embeddings.word_embeddings.weight": np.ones((7, 4), dtype=np.float32),
        "embeddings.position_embeddings.weight": np.ones((2, 4), dtype=np.float32),
        "encoder.layer.0.output.LayerNorm.bias": np.ones(4, dtype=np.float32),
        "pooler.dense.bias": np.ones(4, dtype=np.float32),
    }
    save_file(tensors, weights)
    vocabulary.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return weights, vocabulary


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embeddings.word_embeddings.weight", "token_embd.weight"),
        ("embeddings.LayerNorm.bias", "token_embd_norm.bias"),
        ("encoder.layer.5.attention.self.query.weight", "blk.5.attn_q.weight"),
        ("encoder.layer.0.attention.output.LayerNorm.bias", "blk.0.attn_output_norm.bias"),
        ("encoder.layer.0.output.dense.weight", "blk.0.ffn_down.weight"),
        ("pooler.dense.weight", None),
        ("embeddings.position_ids", None),
    ],
)
def test_a_tensor_has_the_name_that_llama_cpp_knows(name: str, expected: str | None) -> None:
    assert gguf_name(name) == expected


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "encoder.layer.0.weight", "encoder.layer.x.output.dense.weight",
             "embeddings.other.weight", "encoder.layer.0.output.dense.scale", ""],
)  # fmt: skip
def test_a_tensor_that_the_model_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(AssetCorrupt, match="which all-MiniLM-L6-v2 has not"):
        gguf_name(name)


def test_the_beginning_of_a_word_is_marked_instead_of_its_continuation() -> None:
    marked = ["[PAD]", "[CLS]", "[SEP]", "\u2581play", "ing", "\u2581[", "]"]
    assert gguf_tokens("\n".join(WORDS) + "\n") == marked


def test_other_sources_make_another_file(tmp_path: Path) -> None:
    paths = {converted_path(tmp_path, w, v) for w in ("a", "b") for v in ("a", "b")}
    assert len(paths) == 4
    assert all(path.parent == tmp_path for path in paths)


def test_the_file_holds_matrices_at_half_precision_and_all_else_at_full(
    tmp_path: Path, sources: tuple[Path, Path]
) -> None:
    final = tmp_path / "models" / "m.gguf"
    convert(*sources, final, lambda _: None)
    reader = GGUFReader(final)
    assert {t.name: t.tensor_type.name for t in reader.tensors} == {
        "token_embd.weight": "F16", "position_embd.weight": "F32",
        "blk.0.layer_output_norm.bias": "F32",
    }  # fmt: skip
    assert [path.name for path in final.parent.iterdir()] == ["m.gguf"]


def test_the_file_has_no_name_before_it_is_checked(
    tmp_path: Path, sources: tuple[Path, Path]
) -> None:
    final, seen = tmp_path / "m.gguf", []

    def check(staged: Path) -> None:
        seen.append((staged.stat().st_size > 0, final.exists()))

    convert(*sources, final, check)
    assert seen == [(True, False)]
    assert final.exists()


def test_a_file_that_fails_its_check_leaves_nothing(
    tmp_path: Path, sources: tuple[Path, Path]
) -> None:
    def check(_: Path) -> None:
        raise EngineFailed("it computes nonsense")

    with pytest.raises(EngineFailed, match="nonsense"):
        convert(*sources, tmp_path / "out" / "m.gguf", check)
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_that_are_none_are_refused(tmp_path: Path, sources: tuple[Path, Path]) -> None:
    sources[0].write_bytes(b"no weights")
    with pytest.raises(AssetCorrupt, match="holds no weights"):
        convert(*sources, tmp_path / "out" / "m.gguf", lambda _: None)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_conversion_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".m.gguf.0123.tmp").touch()
    (tmp_path / "m.gguf").touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_a_vector_that_means_nothing_is_far_from_the_reference() -> None:
    assert cosine_to_reference([0.0] * DIMENSION) == 0
    assert abs(cosine_to_reference([1.0] * DIMENSION)) < 0.2
    with pytest.raises(ValueError, match="zip"):
        cosine_to_reference([1.0])
