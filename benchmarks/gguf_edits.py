"""Updates of a model file as they happen, for measuring what one costs to fetch.

    for name, edit in edits(folder, synthetic(256 << 20)).items():
        edit.old, edit.new, edit.changed_bytes

What counts as changed: of tensors, by construction, the bytes of the data that the edit made and
that the old file has nowhere (a flipped byte is 1; a tensor that only moved is 0); of the header,
every byte that rsync with blocks of `BLOCK` bytes would not find in the old one, wherever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import gguf
import numpy

from benchmarks.gguf_model import TOKENS, Kind, Model, Tensor, Value, drawn

BLOCK: Final = 64
"""Bytes."""
CHANGED_SHARE: Final = 1 / 64
"""Of the file: how much new tensor data an edit brings that changes or appends tensors. 4 MiB of
256."""
NEW_TOKENS: Final = 64


@dataclass(frozen=True)
class Edit:
    """Two versions of a file."""

    old: Path
    new: Path
    changed_bytes: int
    """Of the new one: see the module."""


Change = tuple[Model, int]
"""The model as it became, and the bytes of tensors' data that are new in it."""


def edits(folder: Path, model: Model) -> dict[str, Edit]:
    """Write the model and every edit of it into ``folder``; by the edit's name."""
    old, made = model.write(folder / "old.gguf"), {}
    old_header = _header(old, model)
    for name, change in EDITS.items():
        changed, data_bytes = change(model)
        new = changed.write(folder / f"{name.replace(' ', '-')}.gguf")
        made[name] = Edit(old, new, data_bytes + _new_bytes(old_header, _header(new, changed)))
    return made


def tensors_changed(model: Model) -> Change:
    """Some whole tensors, here and there, got other weights, as after more training."""
    random = numpy.random.default_rng(1)
    most = CHANGED_SHARE * sum(tensor.size for tensor in model.tensors)
    tensors, changed = list(model.tensors), 0
    for index in random.permutation(len(tensors)):
        size = tensors[index].size
        if changed + size <= most:
            tensors[index] = _other(tensors[index], random)
            changed += size
    return model.with_tensors(tensors), changed


def key_inserted(model: Model) -> Change:
    """A text of 1 KiB came into the header, which moves everything behind it."""
    text = "".join(map(chr, numpy.random.default_rng(2).integers(33, 127, 1024)))
    fields = {"general.description": Value(text, gguf.GGUFValueType.STRING), **model.fields}
    return replace(model, fields=fields), 0


def tensors_appended(model: Model) -> Change:
    """Two tensors more, behind all others."""
    random = numpy.random.default_rng(3)
    size = int(CHANGED_SHARE * sum(tensor.size for tensor in model.tensors)) // 2
    added = [drawn(f"adapter.{n}.weight", Kind.Q8_0, (size // 272, 256), random) for n in range(2)]
    return model.with_tensors([*model.tensors, *added]), sum(tensor.size for tensor in added)


def requantised(model: Model) -> Change:
    """All tensors of one sort have another type, and another size."""
    tensors, changed = [], 0
    for tensor in model.tensors:
        if tensor.name.endswith("attn_q.weight"):
            tensor = _in_type(tensor, Kind.Q8_0 if tensor.kind is not Kind.Q8_0 else Kind.Q5_0)
            changed += tensor.size
        tensors.append(tensor)
    return model.with_tensors(tensors), changed


def vocabulary_extended(model: Model) -> Change:
    """Some tokens more: rows of the embedding, and items in each list of the vocabulary."""
    random = numpy.random.default_rng(4)
    first, *others = model.tensors
    rows = _other(replace(first, rows=first.rows[:NEW_TOKENS]), random).rows
    count, fields = len(first.rows), dict(model.fields)
    for name, each in model.fields.items():
        if each.item and len(each.value) == count:
            new = [f"<new{n}>" for n in range(NEW_TOKENS)]
            more = new if name == TOKENS else each.value[-1:] * NEW_TOKENS
            fields[name] = replace(each, value=[*each.value, *more])
    longer = replace(first, rows=numpy.concatenate([first.rows, rows]))
    return Model(fields, (longer, *others)), int(rows.nbytes)


def byte_flipped(model: Model) -> Change:
    """One byte in the middle of the largest tensor."""
    tensors = list(model.tensors)
    index = max(range(len(tensors)), key=lambda each: tensors[each].size)
    rows = tensors[index].rows.copy()
    rows[len(rows) // 2, 7] ^= 0x10
    tensors[index] = replace(tensors[index], rows=rows)
    return model.with_tensors(tensors), 1


def tensors_reordered(model: Model) -> Change:
    """The same tensors in another order, as another converter writes them."""
    return model.with_tensors(sorted(model.tensors, key=lambda tensor: tensor.name[::-1])), 0


EDITS: Final[dict[str, Callable[[Model], Change]]] = {
    "tensors changed": tensors_changed,
    "key inserted": key_inserted,
    "tensors appended": tensors_appended,
    "requantised": requantised,
    "vocabulary extended": vocabulary_extended,
    "byte flipped": byte_flipped,
    "tensors reordered": tensors_reordered,
}


def _other(tensor: Tensor, random: numpy.random.Generator) -> Tensor:
    """The same tensor, with other weights."""
    weights = gguf.dequantize(tensor.rows.view(), tensor.kind)
    return drawn(tensor.name, tensor.kind, weights.shape, random)


def _in_type(tensor: Tensor, kind: Kind) -> Tensor:
    weights = gguf.dequantize(tensor.rows, tensor.kind)
    return replace(tensor, kind=kind, rows=gguf.quantize(weights, kind).view(numpy.uint8))


def _common(one: memoryview, other: memoryview) -> int:
    """Bytes that both begin with."""
    length, most = 0, min(len(one), len(other))
    while length < most and one[length : length + 4096] == other[length : length + 4096]:
        length += 4096
    while length < most and one[length] == other[length]:
        length += 1
    return min(length, most)


def _header(path: Path, model: Model) -> bytes:
    """Everything before the first tensor's data."""
    step = gguf.GGUF_DEFAULT_ALIGNMENT
    data = sum(-(-tensor.size // step) * step for tensor in model.tensors)
    with path.open("rb") as file:
        return file.read(path.stat().st_size - data)


def _new_bytes(old: bytes, new: bytes) -> int:
    """Bytes of ``new`` in no stretch that ``old`` has too, as rsync finds them.

    It looks at each place of ``new`` for one of the blocks that ``old`` is divided into, and from
    there in both directions. So no common stretch of two blocks escapes it.
    """
    places = {old[at : at + BLOCK]: at for at in range(0, len(old) - BLOCK + 1, BLOCK)}
    at = covered = end = 0
    while at < len(new):
        source = places.get(new[at : at + BLOCK])
        if source is None:
            at += 1
            continue
        begin, old_begin = at, source
        while begin > end and old_begin and old[old_begin - 1] == new[begin - 1]:
            begin, old_begin = begin - 1, old_begin - 1
        at += _common(memoryview(new)[at:], memoryview(old)[source:])
        covered, end = covered + at - begin, at
    return len(new) - covered
