"""The folder that is published: which files of it, and what its publisher says of them.

Nothing is left out in silence: whoever follows the publisher loses what is missing from the next
version. Hidden files alone are passed over; whatever else is no file that can be read and named is
refused, all of it at once.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from protocol.errors import InvalidSettings

DESCRIPTION: Final = "publish.toml"
"""In the folder that is published: what its files are called, and what is new in them."""


class About(BaseModel):
    """What a publisher may say of one file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    name: str = ""
    version: str = ""
    required: bool = True
    fallback: str = ""
    changelog: str = ""
    description: str = ""
    licence: str = ""


class Description(BaseModel):
    """``publish.toml``: what a publisher says of the folder. All of it may be left out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    version: str = ""
    """Of the manifest. Without one it is counted up."""
    min_client_version: str = "0"
    default_model: str = ""
    files: dict[str, About] = Field(default_factory=dict)
    """By the file's path in the folder."""


def read_release(folder: Path) -> tuple[list[str], Description]:
    """The paths of the files to publish, relative and in order, and what is said of them.

    Raises ``InvalidSettings`` with all that is wrong with the folder.
    """
    if not folder.is_dir():
        raise InvalidSettings(
            f"{folder} is no folder: give the folder that the files to publish are in"
            if folder.exists()
            else f"there is no folder {folder}"
        )
    description = read_description(folder)
    paths, wrong = [], []
    for path, reason in sorted(_all_in(folder)):
        if reason:
            wrong.append(f"  {_shown(path)}: {reason}")
        elif path != DESCRIPTION:
            paths.append(path)
    if wrong:
        raise InvalidSettings(
            f"{len(wrong)} of what is in {folder} cannot be published. Mend it, or move it out of "
            "there:\n" + "\n".join(wrong)
        )
    if not paths:
        raise InvalidSettings(f"there are no files in {folder}")
    if unknown := sorted(description.files.keys() - set(paths)):
        raise InvalidSettings(
            f"{folder / DESCRIPTION} describes what is not in the folder: {', '.join(unknown)}"
        )
    return paths, description


def read_description(folder: Path) -> Description:
    """What ``publish.toml`` says; nothing where there is none. Raises ``InvalidSettings``."""
    path = folder / DESCRIPTION
    try:
        return Description.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return Description()
    except OSError as error:
        raise InvalidSettings(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        wrong = "\n".join(
            f"  {'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in error.errors(include_url=False)
        )
        raise InvalidSettings(f"{path} is wrong:\n{wrong}") from error


def _all_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Each file below, by its relative path, and why it cannot be published: empty where it can.
    So is each folder that cannot be looked into."""
    unread: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=unread.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*links, *(name for name in files if not name.startswith("."))):
            path = Path(place, name)
            yield path.relative_to(folder).as_posix(), _reason_against(path)
    for error in unread:
        path = Path(error.filename).relative_to(folder)
        yield path.as_posix(), f"a folder that cannot be read ({error.strerror})"


def _reason_against(path: Path) -> str:
    try:
        path.name.encode()
        found = path.stat()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    except OSError as error:
        return (
            f"a link that leads nowhere ({error.strerror})"
            if path.is_symlink()
            else f"it cannot be looked at ({error.strerror})"
        )
    if stat.S_ISDIR(found.st_mode):
        return "a link to a folder; put the folder itself there"
    if not stat.S_ISREG(found.st_mode):
        return "no file"
    if not os.access(path, os.R_OK):
        return "you may not read it"
    return "" if found.st_size else "it is empty: there is nothing to publish in it"


def _shown(path: str) -> str:
    """A path as it can be printed, whatever bytes are in it."""
    return os.fsencode(path).decode(errors="backslashreplace")
