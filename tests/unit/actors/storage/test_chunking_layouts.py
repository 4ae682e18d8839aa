"""Where the tensors lie: what real writers wrote is read right, what nobody wrote is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy
import pytest
import safetensors.numpy

from actors.storage.chunking.layout import Layout, NoLayout, Span
from actors.storage.chunking.tensors import layout_of
from benchmarks.gguf_model import synthetic
from tests.support.model_files import (
    ARRAY,
    STRING,
    UINT8,
    UINT32,
    gguf_file,
    gguf_header,
    noise,
    padded,
    safetensors_file,
    strings,
    text,
    with_json,
)

TENSORS = {"a": noise("a", 1000), "b": noise("b", 64), "c": noise("c", 333)}


def layout(data: bytes) -> Layout:
    def read(offset: int, size: int) -> bytes:
        assert 0 <= offset <= offset + size <= len(data)
        return data[offset : offset + size]

    return layout_of(read, len(data))


def test_what_ggufs_own_writer_writes_is_read_as_its_own_reader_reads_it(tmp_path: Path) -> None:
    path = synthetic(4 << 20).write(tmp_path / "model.gguf")
    reader = gguf.GGUFReader(path)
    found = layout(path.read_bytes())
    assert found.header == reader.data_offset
    assert [span.offset for span in found.spans] == [each.data_offset for each in reader.tensors]
    for span, tensor in zip(found.spans, reader.tensors, strict=True):
        assert 0 <= span.size - int(tensor.n_bytes) < 32


def test_what_safetensors_own_writer_writes_is_read_as_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {f"t{n}": numpy.full((n + 1, 7), n, numpy.float32) for n in range(5)}
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    data = path.read_bytes()
    found = {data[span.offset : span.offset + span.size] for span in layout(data).spans}
    assert found == {array.tobytes() for array in arrays.values()}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_a_tensor_reaches_to_where_the_next_one_begins(version: int, alignment: int) -> None:
    data = gguf_file(TENSORS, alignment=alignment, version=version)
    found = [data[span.offset : span.offset + span.size] for span in layout(data).spans]
    assert found == [padded(raw, alignment) for raw in TENSORS.values()]


def test_the_last_tensor_reaches_to_the_end_of_the_file() -> None:
    data = gguf_file(TENSORS) + b"more"
    assert sum(layout(data).spans[-1]) == len(data)


def test_every_type_of_value_is_gone_past() -> None:
    widths = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    plain = [(f"k{kind}", kind, bytes(width)) for kind, width in widths.items()]
    lists = [
        (f"l{kind}", ARRAY, struct.pack("<IQ", kind, 3) + bytes(3 * width))
        for kind, width in widths.items()
    ]
    nested = struct.pack("<IQ", ARRAY, 2) + strings(["x", "yz"]) + struct.pack("<IQ", UINT8, 0)
    keys = [*plain, *lists, ("n", ARRAY, nested), ("s", STRING, text("a text"))]
    assert [span.size for span in layout(gguf_file(TENSORS, keys)).spans] == [1024, 64, 352]


def test_a_long_value_is_a_part_of_the_header_by_itself() -> None:
    words = strings([f"word{n}" for n in range(1000)])
    data = gguf_file(TENSORS, [("short", STRING, text("x")), ("long", ARRAY, words)])
    begin, end = layout(data).parts[:2]
    assert data[begin:end] == words[12:]


def test_the_list_of_tensors_is_a_part_by_itself_and_so_is_the_padding_behind_it() -> None:
    keys = [("k", STRING, text("value"))]
    header, before = gguf_header(keys, [("a", 0)]), gguf_header(keys, [])
    assert layout(gguf_file({"a": TENSORS["a"]}, keys)).parts == (len(before), len(header))


def test_tensors_in_one_place_are_one() -> None:
    header = padded(gguf_header([], [("a", 64), ("b", 0), ("tied", 64)]), 32)
    at = len(header)
    assert layout(header + bytes(100)).spans == (Span(at, 64), Span(at + 64, 36))


def test_metadata_and_empty_tensors_of_safetensors_are_no_spans() -> None:
    data = safetensors_file({"empty": b"", "full": b"xyz"}, format="pt", data="no offsets")
    assert [data[span.offset :] for span in layout(data).spans] == [b"xyz"]


WRONG_GGUF = {
    "magic": b"GGUG" + bytes(100),
    "too short": b"GGUF",
    "version 1": gguf_file(TENSORS, version=1),
    "version 4": gguf_file(TENSORS, version=4),
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 1, 0) + bytes(100),
    "no tensors": gguf_file({}),
    "more tensors than any file has": b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0) + bytes(100),
    "more keys than any file has": b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 60) + bytes(100),
    "unknown type": gguf_file(TENSORS, [("k", 13, b"")]),
    "unknown type in an array": gguf_file(TENSORS, [("k", ARRAY, struct.pack("<IQ", 99, 2))]),
    "long text": gguf_file(TENSORS, [("k", STRING, struct.pack("<Q", (1 << 64) - 1))]),
    "long key": gguf_header([], [("a", 0)])[:-40] + struct.pack("<Q", 1 << 63) + bytes(64),
    "long array": gguf_file(TENSORS, [("k", ARRAY, struct.pack("<IQ", UINT32, 1 << 62))]),
    "many texts": gguf_file(TENSORS, [("k", ARRAY, struct.pack("<IQ", STRING, 1 << 40))]),
    "deep": gguf_file(TENSORS, [("k", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000)]),
    "alignment 0": gguf_file(TENSORS, [("general.alignment", UINT32, bytes(4))]),
    "alignment of a wrong type": gguf_file(TENSORS, [("general.alignment", STRING, text("32"))]),
    "huge alignment": gguf_file(TENSORS, [("general.alignment", UINT32, b"\xff" * 4)]),
    "beyond the end": padded(gguf_header([], [("a", 1 << 40)]), 32) + bytes(64),
    "no room for data": gguf_header([], [("a", 0)]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_GGUF)
def test_a_gguf_header_that_cannot_be_right_gives_no_layout(name: str) -> None:
    with pytest.raises(NoLayout):
        layout(WRONG_GGUF[name])


WRONG_JSON = {
    "empty": b"",
    "cut": b'{"a":{"data_offsets":[0,',
    "list": b"[1]",
    "nothing": b"{}",
    "number": b'{"a":1}',
    "null": b'{"a":null}',
    "no numbers": b'{"a":{"data_offsets":["0","8"]}}',
    "three": b'{"a":{"data_offsets":[0,4,8]}}',
    "not a number": b'{"a":{"data_offsets":[0,NaN]}}',
    "negative": b'{"a":{"data_offsets":[-4,4]}}',
    "backwards": b'{"a":{"data_offsets":[8,4]}}',
    "beyond the end": b'{"a":{"data_offsets":[0,4000]}}',
    "beyond any number": b'{"a":{"data_offsets":[0,' + b"9" * 5000 + b"]}}",
    "overlap": b'{"a":{"data_offsets":[0,5]},"b":{"data_offsets":[4,8]}}',
    "no utf-8": b'{"\xff":{"data_offsets":[0,8]}}',
    "deep": b'{"a":' + b"[" * 100_000,
    "deep inside": b'{"a":{"x":' + b'{"y":' * 100_000,
}


@pytest.mark.parametrize("name", WRONG_JSON)
def test_a_safetensors_header_that_cannot_be_right_gives_no_layout(name: str) -> None:
    with pytest.raises(NoLayout):
        layout(with_json(WRONG_JSON[name], bytes(8)))


@pytest.mark.parametrize("data", [b"", b"x", b"\x02", bytes(8), bytes(100), b"\xff" * 100])
def test_other_files_have_no_layout(data: bytes) -> None:
    with pytest.raises(NoLayout):
        layout(data)


def test_a_header_of_more_items_than_any_has_is_refused_before_it_is_read() -> None:
    count = (2 << 20) + 1
    data = gguf_file(TENSORS, [("k", ARRAY, struct.pack("<IQ", STRING, count) + bytes(8 * count))])
    asked = 0

    def read(offset: int, size: int) -> bytes:
        nonlocal asked
        asked += size
        return data[offset : offset + size]

    with pytest.raises(NoLayout, match="items"):
        layout_of(read, len(data))
    assert asked < 1 << 20


def test_a_header_beyond_the_most_is_not_gone_through() -> None:
    size = 1 << 40
    begin = gguf_header([("k", STRING, struct.pack("<Q", 1 << 30))], [("a", 0)])

    def read(offset: int, count: int) -> bytes:
        return begin[offset : offset + count].ljust(count, b"\0")

    with pytest.raises(NoLayout, match="goes on past byte"):
        layout_of(read, size)


def test_the_length_of_a_safetensors_header_is_not_believed() -> None:
    claims = struct.pack("<Q", 10**15) + b'{"a":'
    asked: list[int] = []

    def read(offset: int, size: int) -> bytes:
        asked.append(size)
        return claims[offset : offset + size]

    with pytest.raises(NoLayout):
        layout_of(read, 10**16)
    assert max(asked) <= 8
