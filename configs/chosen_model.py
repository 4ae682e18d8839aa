"""Which language model the user chose with ``noyau models use``: one small file among the data.

It is what ``model = "default"`` of an engine means; without a choice that is the manifest's
default.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import InvalidSettings

FILE = "model.json"


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """The user's choice, and the files that were ever chosen."""

    path: Path | None = None
    """None: the manifest's default."""
    known: tuple[Path, ...] = ()
    """The latest first."""

    def using(self, path: Path | None) -> ChosenModel:
        """With another choice."""
        known = self.known if path is None else (path, *(one for one in self.known if one != path))
        return ChosenModel(path, known)


def read_choice(data_folder: Path) -> ChosenModel:
    """The choice, or none where there is no file. Raises `InvalidSettings` for one that is damaged,
    and where it cannot be read."""
    file = data_folder / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        path, known = found["path"], found["known"]
        if not all(isinstance(one, str) for one in (path or "", *known)):
            raise TypeError("a path is a text")
        return ChosenModel(Path(path) if path else None, tuple(map(Path, known)))
    except FileNotFoundError:
        return ChosenModel()
    except OSError as error:
        raise InvalidSettings(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise InvalidSettings(
            f"{file} is damaged: choose the model again, with `noyau models use FILE.gguf` or "
            "`noyau models default`"
        ) from None


def write_choice(data_folder: Path, choice: ChosenModel) -> None:
    """Keep the choice, all of it or nothing. Raises `InvalidSettings` where that cannot be."""
    path = str(choice.path) if choice.path else None
    text = json.dumps({"path": path, "known": [str(one) for one in choice.known]}, indent=2)
    file = data_folder / FILE
    fresh = file.with_suffix(".new")
    try:
        data_folder.mkdir(parents=True, exist_ok=True)
        with fresh.open("w", encoding="utf-8") as opened:
            opened.write(text + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
        _sync(data_folder)
    except OSError as error:
        raise InvalidSettings(f"{file} cannot be written: {error.strerror}") from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
