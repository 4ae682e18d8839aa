"""A model file of the user's own: what is in it, and whether this machine can run it.

`check_size` costs a look at the file's head and is done at every start of an engine. `read_model`
reads all metadata with the ``gguf`` library, which takes seconds for a large vocabulary, and is
done once, before a model is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import MissingDependency, UnusableModel

MAGIC = b"GGUF"
"""The first four bytes; see the specification of the GGUF format in the ggml repository."""
CACHE_BYTES = 2
"""Of one number in the cache of keys and values: llama.cpp keeps them as 16-bit floats."""
WORKING_BYTES = 128 * 2**20
"""Room for computing and for the process itself: the default model's engine has about as much
beyond its weights and cache."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What a GGUF file says of itself."""

    path: Path
    size_bytes: int
    name: str
    architecture: str
    trained_context_tokens: int
    """How many tokens it was trained to look back on; 0 when it does not say."""
    cache_bytes_per_token: int
    """Keys and values of one token in all layers; 0 when it does not say."""
    has_chat_template: bool
    pools: bool
    """Whether it says how the vectors of a text's tokens become one: models that embed do."""

    def needed_bytes(self, context_tokens: int) -> int:
        """Memory to run it with so many tokens of context in all slots: weights, keys and values,
        and room for computing. An estimate."""
        return self.size_bytes + self.cache_bytes_per_token * context_tokens + WORKING_BYTES


def check_size(path: Path, memory_bytes: int) -> None:
    """Raises `UnusableModel` for a file that is no GGUF at all, or larger than all memory."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
            size = path.stat().st_size
    except OSError as error:
        raise UnusableModel(f"{path} cannot be read: {error.strerror}", path=str(path)) from None
    if head != MAGIC:
        raise UnusableModel(
            f"{path} is no GGUF file: it begins with {head!r}. llama.cpp runs models in the GGUF "
            "format only",
            path=str(path),
        )
    if size > memory_bytes:
        raise UnusableModel(
            f"{path} has {_gb(size)}, more than the {_gb(memory_bytes)} of memory here; take a "
            "smaller model, or the same one with fewer bits",
            path=str(path),
        )


def check_usable(model: ModelFile, context_tokens: int, available_bytes: int) -> None:
    """Raises `UnusableModel` for one without a chat template, or with too little memory for it.
    ``context_tokens``: in all slots together."""
    if not model.has_chat_template:
        raise UnusableModel(
            f"{model.path} has no chat template, so nobody knows how to put a question to it; take "
            "an instruction-tuned model (its name often ends in -Instruct or -it)",
            path=str(model.path),
        )
    needed = model.needed_bytes(context_tokens)
    if needed > available_bytes:
        raise UnusableModel(
            f"{model.path} needs about {_gb(needed)} with {context_tokens} tokens of context, and "
            f"{_gb(available_bytes)} of memory are free; take a smaller model, or less context "
            "(actors.cpu_engine.settings.context_tokens)",
            path=str(model.path),
            needed_bytes=needed,
            available_bytes=available_bytes,
        )


def read_model(path: Path) -> ModelFile:
    """Read a GGUF file's metadata, and see that all of its tensors are inside it; blocks.

    Raises `UnusableModel` and `MissingDependency`.
    """
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f'looking into a model needs {error.name}: pip install "noyau[engine]"'
        ) from None
    try:
        reader = GGUFReader(path)
        return _described(path, _Fields(reader))
    except OSError as error:
        raise UnusableModel(f"{path} cannot be read: {error.strerror}", path=str(path)) from None
    except Exception as error:  # noqa: BLE001 - it fails in as many ways as a file can
        raise UnusableModel(
            f"{path} is damaged or incomplete ({error}); fetch it again", path=str(path)
        ) from None


class _Fields:
    """The metadata by name."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def text(self, name: str) -> str:
        value = self._value(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str, otherwise: int = 0) -> int:
        value = self._value(name)
        return value if isinstance(value, int) else otherwise

    def numbers(self, name: str) -> list[int] | None:
        """One for each layer; None where it is one for all, or not told."""
        value = self._value(name)
        return [int(one) for one in value] if isinstance(value, list) else None

    def _value(self, name: str) -> Any:
        field = self._reader.fields.get(name)
        return None if field is None else field.contents()


def _described(path: Path, fields: _Fields) -> ModelFile:
    kind = fields.text("general.architecture")
    if not kind:
        raise ValueError("it does not say its architecture")
    return ModelFile(
        path=path,
        size_bytes=path.stat().st_size,
        name=fields.text("general.name") or path.stem,
        architecture=kind,
        trained_context_tokens=fields.number(f"{kind}.context_length"),
        cache_bytes_per_token=_cache_bytes_per_token(kind, fields),
        has_chat_template=bool(fields.text("tokenizer.chat_template").strip()),
        pools=fields.number(f"{kind}.pooling_type") > 0,
    )


def _cache_bytes_per_token(kind: str, fields: _Fields) -> int:
    """Keys and values: so many heads of so many numbers in each layer."""
    layers = fields.number(f"{kind}.block_count")
    heads = fields.number(f"{kind}.attention.head_count")
    width = fields.number(f"{kind}.embedding_length") // heads if heads else 0
    key = fields.number(f"{kind}.attention.key_length", width)
    value = fields.number(f"{kind}.attention.value_length", width)
    per_layer = fields.numbers(f"{kind}.attention.head_count_kv")
    all_heads = (
        sum(per_layer)
        if per_layer is not None
        else layers * fields.number(f"{kind}.attention.head_count_kv", heads)
    )
    return all_heads * (key + value) * CACHE_BYTES


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
