"""Where a converted model lies, and whether it may be used.

Loading a GGUF file takes transformers 12 to 19 s for the default model; loading what it made of it
0.3 to 2 s. So that is kept::

    FOLDER/transformers-MODEL-DTYPE-VERSION/   config.json, model.safetensors, tokenizer.json, …
        conversion.json                        size and hash of each of these
        checked                                the boot in which the hashes were last compared

It is written under another name, synced and renamed: a name that is there was finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

FORMAT: Final = 1
"""Counted up when the conversion itself changes, so that none of an older one is used."""
INDEX: Final = "conversion.json"
CHECKED: Final = "checked"
_BLOCK: Final = 1 << 20

Verdict = Literal["use", "compare", "convert"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of a conversion."""

    size: int
    sha256: str


def name_of(model: str, dtype: str, version: str) -> str:
    """The folder of this model's conversion; ``version`` is the library's."""
    return f"{_of_model(model, dtype)}{_short(f'{FORMAT} {version}')}"


def is_outdated(name: str, model: str, dtype: str, version: str) -> bool:
    """Whether the folder is an older library's conversion of the same model, which nobody reads
    any more."""
    return name.startswith(_of_model(model, dtype)) and name != name_of(model, dtype, version)


def verdict(
    index: Mapping[str, Kept] | None, sizes: Mapping[str, int], checked: str, boot: str
) -> Verdict:
    """What to do with a folder: ``index`` is what it should hold (None where it does not say) and
    ``sizes`` what it does. Flipped bits load and make garbage, so the hashes are compared once in
    every boot; restarts in between trust what was compared."""
    if not index or any(sizes.get(name) != file.size for name, file in index.items()):
        return "convert"
    return "use" if checked == boot else "compare"


def usable(folder: Path, boot: str) -> bool:
    """Whether the conversion there may be used; reads all of it where that is due."""
    try:
        index = _read_index(folder)
        sizes = {one.name: one.stat().st_size for one in folder.iterdir()}
        checked = _text(folder / CHECKED)
        decided = verdict(index, sizes, checked, boot)
        if decided == "compare" and index is not None:
            if any(_sha256(folder / name) != file.sha256 for name, file in index.items()):
                return False
            with contextlib.suppress(OSError):
                (folder / CHECKED).write_text(boot)
    except OSError:
        return False
    return decided != "convert"


def publish(folder: Path, write: Callable[[Path], None], boot: str) -> None:
    """Have ``write`` fill a folder, and give it its name when it is safely on disk. Raises
    `OSError` where it cannot be written; then nothing of it is left."""
    staged = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        staged.mkdir(parents=True)
        write(staged)
        made = sorted(staged.iterdir())
        index = {one.name: [one.stat().st_size, _sha256(one)] for one in made}
        (staged / INDEX).write_text(json.dumps(index, indent=1))
        (staged / CHECKED).write_text(boot)
        for file in (*staged.iterdir(), staged):
            _fsync(file)
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def sweep(kept: Path, model: str, dtype: str, version: str) -> None:
    """Remove what was left half done, and what is outdated."""
    for folder in kept.glob(".transformers-*.tmp"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in kept.glob("transformers-*"):
        if folder.is_dir() and is_outdated(folder.name, model, dtype, version):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(kept: Path) -> Iterator[None]:
    """Two engines do not convert at once: the second finds what the first has made. Not locked
    where nothing can be written."""
    try:
        kept.mkdir(parents=True, exist_ok=True)
        lock = (kept / ".transformers.lock").open("w")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def this_boot() -> str:
    """What the kernel calls this boot."""
    return _text(Path("/proc/sys/kernel/random/boot_id"))


def _of_model(model: str, dtype: str) -> str:
    return f"transformers-{_short(model)}-{dtype}-"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_index(folder: Path) -> dict[str, Kept] | None:
    try:
        found = json.loads(_text(folder / INDEX))
        return {str(name): Kept(int(size), str(sha)) for name, (size, sha) in found.items()}
    except (ValueError, TypeError, AttributeError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _sha256(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            whole.update(block)
    return whole.hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
