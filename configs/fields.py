"""The building blocks of the settings: their base model and the types that check themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

RESERVED_NAMES = ("spawner", "supervisor")
"""Names no actor may have: their sockets and log files are the runtime's own."""

# A double underscore is left out on purpose: it is what nests names in environment variables.
_ACTOR_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def wrong(problem: str, remedy: str) -> PydanticCustomError:
    """An error of a validator that says by itself what is wrong and what would be right."""
    context = {"problem": problem, "remedy": remedy}
    return PydanticCustomError("wrong", "{problem}; {remedy}", context)


def default_data_folder(environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_DATA_HOME/noyau``, or ``~/.local/share/noyau``."""
    base = _xdg("XDG_DATA_HOME", environ)
    return base / "noyau" if base else Path.home() / ".local" / "share" / "noyau"


def _xdg(variable: str, environ: Mapping[str, str] | None) -> Path | None:
    # The XDG base directory specification: an empty or relative one counts as unset.
    path = Path((os.environ if environ is None else environ).get(variable, ""))
    return path if path.is_absolute() else None


def _absolute(path: Path) -> Path:
    # Processes with other working folders read the same settings, so a path must mean one place.
    if path == Path():
        raise wrong("the path is empty", "give a folder or file, such as /srv/noyau")
    return path.expanduser().absolute()


def _actor_name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise wrong(f"{name} is the runtime's own process", "give the actor another name")
    if not _ACTOR_NAME.fullmatch(name):
        raise wrong(
            f"{name!r} is no actor name",
            "use lower-case letters, digits and single underscores, such as cpu_engine",
        )
    return name


def _class_path(text: str) -> str:
    if not _CLASS_PATH.fullmatch(text):
        raise wrong(f"{text!r} names no class", 'write "package.module:Class"')
    return text


def _server_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        well_formed = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or not text.isascii() or not text.isprintable() or " " in text:
        raise wrong(
            f"{text!r} is no URL of a server",
            "write http:// or https://, a host and the path of its API, such as "
            "http://127.0.0.1:8080/v1",
        )
    if parts.username is not None or parts.query or parts.fragment:
        # Not shown: it may hold a secret.
        raise wrong(
            "the URL holds more than a host and a path",
            "leave user, password and all behind a ? or # out; a key goes into a file of its own "
            "(api_key_file)",
        )
    return text


def _cpu_numbers(cpus: list[int]) -> list[int]:
    # Linux knows 8192 at most; which of them a machine has is seen where they are used.
    if not cpus or min(cpus) < 0 or max(cpus) > 8191:
        raise wrong(f"{cpus} is no choice of CPUs", "give some of their numbers, such as [0, 1]")
    return cpus


# Strict models take no text for a path, and text is all that TOML has.
LocalPath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
ActorName = Annotated[str, AfterValidator(_actor_name)]
ClassPath = Annotated[str, AfterValidator(_class_path)]
ServerUrl = Annotated[str, AfterValidator(_server_url)]
CpuNumbers = Annotated[list[int], AfterValidator(_cpu_numbers)]


RELOADS: dict[str, JsonValue] = {"reload": True}
"""``json_schema_extra`` of a setting that may change while noyau runs, by `noyau reload`."""


class Section(BaseModel):
    """Base of all settings: frozen, no unknown names, no silent conversion, no nan or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )
