"""From the published weights of all-MiniLM-L6-v2 to the GGUF file that llama.cpp loads.

    safetensors + vocabulary ──► temporary file ──► fsync ──► check ──► rename ──► fsync the folder

Done once: the file's name holds the hash of its sources, so other weights make another file, and
a name that is there is a conversion that was checked.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from protocol.errors import AssetCorrupt, DiskFull, MissingDependency

FORMAT: Final = 1
"""Counted up when the conversion itself changes, so that no file of an older one is used."""

CLS: Final = 101
SEP: Final = 102
LAYER_NORM_EPSILON: Final = 1e-12
"""These as in the model's own vocabulary and configuration."""

_LAYER: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_EMBEDDINGS: Final = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
_LEFT_OUT: Final = ("pooler.", "embeddings.position_ids")
"""Mean pooling needs no pooler, and the ids of the positions are 0 to 511."""


def converted_path(folder: Path, weights_sha256: str, vocabulary_sha256: str) -> Path:
    """Where the file made of these sources lies, or would."""
    both = f"{FORMAT} {weights_sha256} {vocabulary_sha256}".encode()
    return folder / f"all-minilm-l6-v2-{hashlib.sha256(both).hexdigest()[:32]}.gguf"


def gguf_name(name: str) -> str | None:
    """The name llama.cpp has for a tensor; None for one that it does not need.

    Raises ``AssetCorrupt`` for a tensor that this model does not have.
    """
    if name.startswith(_LEFT_OUT):
        return None
    path, _, kind = name.rpartition(".")
    parts = path.split(".", 3)
    known: str | None = None
    if parts[0] == "embeddings":
        known = _EMBEDDINGS.get(path.removeprefix("embeddings."))
    elif parts[:2] == ["encoder", "layer"] and len(parts) == 4 and parts[2].isdecimal():
        part = _LAYER.get(parts[3])
        known = part and f"blk.{parts[2]}.{part}"
    if known is None or kind not in ("weight", "bias"):
        raise AssetCorrupt(f"the weights hold a tensor {name!r}, which all-MiniLM-L6-v2 has not")
    return f"{known}.{kind}"


def gguf_tokens(vocabulary: str) -> list[str]:
    """The vocabulary as llama.cpp's WordPiece takes it: a word's beginning is marked, where the
    original marks its continuation. Pure."""
    return [_gguf_token(line) for line in vocabulary.removesuffix("\n").split("\n")]


def _gguf_token(token: str) -> str:
    if token.startswith("[") and token.endswith("]") and len(token) > 2:
        return token
    return token[2:] if token.startswith("##") else f"\u2581{token}"


def convert(weights: Path, vocabulary: Path, final: Path, check: Callable[[Path], None]) -> None:
    """Write the GGUF file at ``final``; blocks for about a second.

    ``check`` is given the finished file before it gets its name, and raises when that does not
    compute what it should; then nothing is left. Raises ``AssetCorrupt`` when the sources are not
    this model, ``DiskFull``, or ``MissingDependency``.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write(weights, vocabulary, staged)
        _fsync(staged, os.O_RDWR)
        check(staged)
        staged.replace(final)
        _fsync(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DiskFull(
            f"the embedding model could not be written to {final}: {error.strerror}; make about "
            "50 MB of room there",
            path=str(final),
        ) from error
    finally:
        staged.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what conversions that were killed left half done."""
    for left in folder.glob(".*.gguf.*.tmp"):
        left.unlink(missing_ok=True)


def _write(weights: Path, vocabulary: Path, to: Path) -> None:
    try:
        import gguf
        import numpy
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f'converting the embedding model needs {error.name}: pip install "noyau[memory]"'
        ) from None
    writer = gguf.GGUFWriter(to, "bert")
    _describe(writer, gguf, gguf_tokens(vocabulary.read_text(encoding="utf-8")))
    for name, tensor in _tensors(weights):
        # As llama.cpp's own converter: matrices at half precision, all that is added or scaled
        # with, and the small tables of positions and types, at full.
        half = tensor.ndim == 2 and not name.startswith(("position_embd", "token_types"))
        writer.add_tensor(name, tensor.astype(numpy.float16) if half else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, gguf: Any, tokens: list[str]) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(512)
    writer.add_embedding_length(384)
    writer.add_feed_forward_length(1536)
    writer.add_block_count(6)
    writer.add_head_count(12)
    writer.add_layer_norm_eps(LAYER_NORM_EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    special = gguf.TokenType.CONTROL
    writer.add_token_types(
        [special if t[0] == "[" and t[-1] == "]" else gguf.TokenType.NORMAL for t in tokens]
    )
    writer.add_token_type_count(2)
    writer.add_bos_token_id(CLS)
    writer.add_eos_token_id(SEP)
    writer.add_sep_token_id(SEP)
    writer.add_unk_token_id(100)
    writer.add_pad_token_id(0)
    writer.add_mask_token_id(103)


def _tensors(weights: Path) -> Iterator[tuple[str, Any]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f'converting the embedding model needs {error.name}: pip install "noyau[memory]"'
        ) from None
    try:
        with safe_open(weights, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                wanted = gguf_name(name)
                if wanted is not None:
                    yield wanted, file.get_tensor(name)
    except SafetensorError as error:
        raise AssetCorrupt(f"{weights} holds no weights: {error}", path=str(weights)) from None


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
