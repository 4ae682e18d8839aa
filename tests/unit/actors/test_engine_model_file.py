"""Model files of the user's own: what is in them, and those that cannot be used."""

from __future__ import annotations

import contextlib
from pathlib import Path

import gguf
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.engine.model_file import WORKING_BYTES, ModelFile, check_size, check_usable, read_model
from protocol.errors import UnusableModel

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def write_model(
    path: Path,
    *,
    template: str = TEMPLATE,
    kv_heads: int | list[int] = 2,
    pooling: gguf.PoolingType | None = None,
) -> Path:
    """A GGUF file that says all that is asked of it: 3 layers, 4 heads of 8 numbers."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_context_length(2048)
    writer.add_embedding_length(32)
    writer.add_block_count(3)
    writer.add_head_count(4)
    writer.add_head_count_kv(kv_heads)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    if template:
        writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", numpy.zeros((64, 32), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_what_a_file_says_of_itself_is_read(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf")
    assert read_model(path) == ModelFile(
        path, path.stat().st_size, "Tiny", "llama", 2048,
        # Keys and values: 3 layers of 2 heads of 8 numbers of 2 bytes.
        cache_bytes_per_token=2 * 3 * 2 * 8 * 2, has_chat_template=True,
        pools=False,
    )  # fmt: skip


def test_a_model_that_embeds_says_how_the_vectors_of_its_tokens_become_one(tmp_path: Path) -> None:
    assert read_model(write_model(tmp_path / "tiny.gguf", pooling=gguf.PoolingType.CLS)).pools
    assert not read_model(write_model(tmp_path / "none.gguf", pooling=gguf.PoolingType.NONE)).pools


def test_layers_may_differ_in_their_heads(tmp_path: Path) -> None:
    model = read_model(write_model(tmp_path / "tiny.gguf", kv_heads=[1, 2, 4]))
    assert model.cache_bytes_per_token == 2 * (1 + 2 + 4) * 8 * 2


def test_memory_is_needed_for_weights_and_for_what_is_looked_back_on(tmp_path: Path) -> None:
    model = read_model(write_model(tmp_path / "tiny.gguf"))
    assert model.needed_bytes(1000) == model.size_bytes + 192 * 1000 + WORKING_BYTES


def test_a_model_is_usable_to_the_last_byte(tmp_path: Path) -> None:
    model = read_model(write_model(tmp_path / "tiny.gguf"))
    check_usable(model, 1000, model.needed_bytes(1000))
    with pytest.raises(UnusableModel, match="context_tokens"):
        check_usable(model, 1000, model.needed_bytes(1000) - 1)


@pytest.mark.parametrize("template", ["", "  \n"])
def test_a_model_without_a_chat_template_is_refused(tmp_path: Path, template: str) -> None:
    model = read_model(write_model(tmp_path / "tiny.gguf", template=template))
    with pytest.raises(UnusableModel, match="instruction-tuned"):
        check_usable(model, 0, 2**60)


@pytest.mark.parametrize("content", [b"", b"GGU", b"hello world"])
def test_what_is_no_gguf_file_is_told_by_its_head(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(content)
    with pytest.raises(UnusableModel, match="no GGUF file"):
        check_size(path, 2**60)


def test_a_file_larger_than_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    path.write_bytes(b"GGUF" + bytes(96))
    check_size(path, 100)
    with pytest.raises(UnusableModel, match="more than the"):
        check_size(path, 99)


@pytest.mark.parametrize("name", [".", "none.gguf"])
def test_what_cannot_be_read_is_told_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnusableModel, match="cannot be read"):
        check_size(tmp_path / name, 2**60)
    with pytest.raises(UnusableModel):
        read_model(tmp_path / name)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_model(tmp_path_factory.mktemp("model") / "good.gguf").read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_a_file_that_was_cut_off_is_unusable(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("model") / "cut.gguf"
    path.write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(UnusableModel):
        read_model(path)


@settings(max_examples=150)
@given(data=st.data())
def test_flipped_bytes_in_the_head_are_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, data: st.DataObject
) -> None:
    spoilt = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("model") / "spoilt.gguf"
    path.write_bytes(spoilt)
    with contextlib.suppress(UnusableModel):
        assert read_model(path).size_bytes == len(good)
