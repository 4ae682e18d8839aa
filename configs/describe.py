"""All settings by their dotted names, read off the schema: for the docs and for error messages."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from configs.fields import default_data_folder
from configs.schema import ACTOR_SETTINGS, ActorEntry, Settings
from protocol.endpoints import xdg_run_folder

# A setting's unit is the end of its name.
UNITS = {
    "_bytes_per_s": "bytes per second",
    "_s": "seconds",
    "_bytes": "bytes",
    "_mib": "MiB",
    "_tokens": "tokens",
}

_WORDS = {
    "Path": "path",
    "bool": "true or false",
    "dict": "table",
    "float": "number",
    "int": "whole number",
    "str": "text",
}


class SettingDescription(NamedTuple):
    """One setting, in words."""

    name: str
    type: str
    default: str
    description: str
    reloads: bool = False
    """Whether `noyau reload` changes it while everything runs."""


def default_tree() -> dict[str, Any]:
    """The values of `default.toml`, the lowest layer."""
    return tomllib.loads(_default_text())


def describe_settings() -> Iterator[SettingDescription]:
    """Every setting there is, in the schema's order.

    What each actor's entry has is told once, under the name ``actors.NAME``; the settings of the
    built-in classes stand under the names they have in `default.toml`.
    """
    for path, field in _section_fields():
        yield _description(path, field)
    for name, field in _own_fields(ActorEntry):
        yield _description(("actors", "NAME", name), field)
    for actor, entry in default_tree()["actors"].items():
        own = entry.get("settings", {})
        for name, field in _own_fields(ACTOR_SETTINGS[entry["class"]]):
            one = _description(("actors", actor, "settings", name), field)
            yield one if name not in own else one._replace(default=toml_text(own[name]))


def known_fields(actors: Mapping[str, Any]) -> dict[tuple[str, ...], FieldInfo]:
    """Every setting's name as it is with these actor entries (plain, maybe wrong values)."""
    known = dict(_section_fields())
    for actor, entry in actors.items():
        for name, field in _own_fields(ActorEntry):
            known["actors", actor, name] = field
        class_path = entry.get("class") if isinstance(entry, Mapping) else None
        model = ACTOR_SETTINGS.get(class_path) if isinstance(class_path, str) else None
        for name, field in _own_fields(model) if model else ():
            known["actors", actor, "settings", name] = field
    return known


def unit(name: str) -> str:
    """The unit that a setting's name ends in, or nothing."""
    return next((word for end, word in UNITS.items() if name.endswith(end)), "")


def _section_fields() -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            for name, inner in _own_fields(model):
                yield (section, name), inner


def _own_fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def _description(path: tuple[str, ...], field: FieldInfo) -> SettingDescription:
    return SettingDescription(
        ".".join(path), _type_name(field), _default(field), field.description or "",
        reloads(field),
    )  # fmt: skip


def reloads(field: FieldInfo) -> bool:
    """Whether `noyau reload` changes this setting while everything runs."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("reload") is True


def _type_name(field: FieldInfo) -> str:
    return _in_words(field.annotation)


def _in_words(kind: Any) -> str:
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return ", ".join(toml_text(one) for one in arguments)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join("unset" if one is NoneType else _in_words(one) for one in arguments)
    if get_origin(kind) is Annotated:
        return _in_words(arguments[0])
    if get_origin(kind) is list:
        return f"list of {_in_words(arguments[0])}"
    name: str = (get_origin(kind) or kind).__name__
    return _WORDS.get(name, name)


def _default(field: FieldInfo) -> str:
    """The default as it is written in TOML; in words where it depends on the machine."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=False)
    if field.default_factory is not None:
        factory = field.default_factory
        if factory in (xdg_run_folder, default_data_folder):
            return "depends on the user"
        value = field.get_default(call_default_factory=True, validated_data={})
    return toml_text(value)


def toml_text(value: Any) -> str:
    """A plain value as TOML writes it; ``None`` is ``unset``."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_text(one) for one in value)}]"
    return str(value)


@cache
def _default_text() -> str:
    return resources.files("configs").joinpath("default.toml").read_text("utf-8")
