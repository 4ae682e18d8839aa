"""A GGUF file in memory, to be changed and written again: what the makers of updates work on.

`synthetic` makes one in the form of a small llama of any size; `read` takes a real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import gguf
import numpy
import numpy.typing

Kind = gguf.GGMLQuantizationType
Bytes = numpy.typing.NDArray[numpy.uint8]

TOKENS: Final = "tokenizer.ggml.tokens"
_OWN: Final = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")
"""Fields that the writer makes itself."""


@dataclass(frozen=True)
class Tensor:
    """A tensor's name, type and data."""

    name: str
    kind: Kind
    rows: Bytes
    """The data as it lies in the file: (rows, bytes of a row)."""

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return int(self.rows.nbytes)


@dataclass(frozen=True)
class Value:
    """A key's value, with its type, and that of its items if it is an array."""

    value: Any
    kind: gguf.GGUFValueType
    item: gguf.GGUFValueType | None = None


@dataclass(frozen=True)
class Model:
    """All keys and tensors, in the order of the file."""

    fields: dict[str, Value]
    tensors: tuple[Tensor, ...] = field(default=())

    def with_tensors(self, tensors: Sequence[Tensor]) -> Model:
        """The same with other tensors."""
        return replace(self, tensors=tuple(tensors))

    def write(self, path: Path) -> Path:
        """Write it as a GGUF file, as llama.cpp's own converters do."""
        writer = gguf.GGUFWriter(path, "llama")
        for name, each in self.fields.items():
            writer.add_key_value(name, each.value, each.kind, sub_type=each.item)
        for tensor in self.tensors:
            shape = tensor.rows.shape
            writer.add_tensor_info(
                tensor.name, shape, tensor.rows.dtype, tensor.size, raw_dtype=tensor.kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in self.tensors:
            writer.write_tensor_data(tensor.rows)
        writer.close()
        return path


def read(path: Path) -> Model:
    """The model in a GGUF file."""
    reader = gguf.GGUFReader(path)
    fields = {}
    for name, each in reader.fields.items():
        if name not in _OWN:
            item = each.types[-1] if each.types[0] is gguf.GGUFValueType.ARRAY else None
            fields[name] = Value(each.contents(), each.types[0], item)
    tensors = tuple(
        Tensor(each.name, each.tensor_type, _rows(each.data)) for each in reader.tensors
    )
    return Model(fields, tensors)


def _rows(data: numpy.typing.NDArray[Any]) -> Bytes:
    raw = numpy.array(data).view(numpy.uint8)
    return raw.reshape(-1, raw.shape[-1])


def synthetic(size: int) -> Model:
    """A llama of about ``size`` bytes in Q8_0, its weights drawn at random, the same each time."""
    width = 1024 if size >= 64 << 20 else 256
    random = numpy.random.default_rng(size)
    vocabulary = 31 * width
    tensors = [drawn("token_embd.weight", Kind.Q8_0, (vocabulary, width), random)]
    layer = 0
    while sum(tensor.size for tensor in tensors) < size - 6 * width * width:
        tensors += _layer(layer, width, random)
        layer += 1
    tensors.append(drawn("output_norm.weight", Kind.F32, (1, width), random))
    return Model(_fields(vocabulary, width, layer), tuple(tensors))


def drawn(name: str, kind: Kind, shape: tuple[int, int], random: numpy.random.Generator) -> Tensor:
    """A tensor of random weights."""
    weights = random.normal(0, 0.02, shape).astype(numpy.float32)
    return Tensor(name, kind, gguf.quantize(weights, kind).view(numpy.uint8))


def _layer(number: int, width: int, random: numpy.random.Generator) -> list[Tensor]:
    hidden, shared = width * 11 // 4, width // 4
    shapes = {
        "attn_norm": (1, width), "ffn_down": (width, hidden), "ffn_gate": (hidden, width),
        "ffn_up": (hidden, width), "ffn_norm": (1, width), "attn_k": (shared, width),
        "attn_output": (width, width), "attn_q": (width, width), "attn_v": (shared, width),
    }  # fmt: skip
    return [
        drawn(
            f"blk.{number}.{name}.weight", Kind.Q8_0 if rows > 1 else Kind.F32, (rows, of), random
        )
        for name, (rows, of) in shapes.items()
    ]


def _fields(vocabulary: int, width: int, layers: int) -> dict[str, Value]:
    kinds, text = gguf.GGUFValueType, gguf.GGUFValueType.STRING
    syllables = [a + b for a in "bcdfghjklmnpqrstvwz" for b in ("a", "e", "i", "o", "an", "er")]
    count = len(syllables)
    tokens = [
        f"▁{syllables[n % count]}{syllables[n // count % count]}{n // count**2 or ''}"
        for n in range(vocabulary)
    ]
    return {
        "general.name": Value("Synthetic", text),
        "llama.block_count": Value(layers, kinds.UINT32),
        "llama.context_length": Value(2048, kinds.UINT32),
        "llama.embedding_length": Value(width, kinds.UINT32),
        "tokenizer.ggml.model": Value("llama", text),
        TOKENS: Value(tokens, kinds.ARRAY, text),
        "tokenizer.ggml.scores": Value(
            [-float(n) for n in range(vocabulary)], kinds.ARRAY, kinds.FLOAT32
        ),
        "tokenizer.ggml.token_type": Value([1] * vocabulary, kinds.ARRAY, kinds.INT32),
        "tokenizer.chat_template": Value("{% for m in messages %}{{ m }}{% endfor %}", text),
    }
