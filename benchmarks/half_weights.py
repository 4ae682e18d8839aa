"""The default model with weights of half precision (F16), made from its quantised file.

Quantised weights round differently where many tokens are read at once and where they are written
one by one, so that an answer that is gone on with may differ from the uninterrupted one for that
reason alone. With these the rounding is nearly the same.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import gguf
import numpy

_OWN = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")
"""Fields that the writer makes itself."""
_CHANGED = ("general.file_type", "general.quantization_version")


def half_weights(source: Path) -> Path:
    """The path of the file, made unless an earlier run made it from the same ``source``."""
    stat = source.stat()
    folder = Path(tempfile.gettempdir()) / f"noyau-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{source.stem}-{stat.st_size}-{stat.st_mtime_ns}.F16.gguf"
    if not made.exists():
        begun = made.with_suffix(f".{os.getpid()}.tmp")
        try:
            _write(gguf.GGUFReader(source), begun)
            begun.rename(made)
        finally:
            begun.unlink(missing_ok=True)
    return made


def _write(source: gguf.GGUFReader, to: Path) -> None:
    architecture = source.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(to, architecture)
    for name, field in source.fields.items():
        if name not in (*_OWN, *_CHANGED):
            item = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=item)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in source.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        # As llama.cpp's own converter: matrices at half precision, all that is added or scaled
        # with at full.
        half = tensor.tensor_type is not gguf.GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, values.astype(numpy.float16 if half else numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
