"""What a reload of the settings changes: at once, at an actor's next start, or at noyau's. Pure.

A setting that says so in the schema is applied at once; an actor's own class, settings and
resources, and what it is started with, when the actor is next started; all else when noyau is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from configs.describe import known_fields, reloads
from configs.schema import Settings
from protocol.errors import InvalidSettings

_OF_THE_GRAPH = ("needs", "uses", "enabled", "preload")
"""Of an actor's entry: what ties it to the others, which noyau's start decides."""

Name = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Which settings differ, by when they are applied."""

    settings: Settings
    """Those that are in force from now on: the old ones, with what could be changed."""
    now: list[str] = field(default_factory=list)
    at_restart: dict[str, list[str]] = field(default_factory=dict)
    """By actor."""
    at_start: list[str] = field(default_factory=list)
    """Of noyau."""


def changes(old: Settings, new: Settings) -> Changes:
    """What goes from ``old`` to ``new``.

    Raises `InvalidSettings` when what can be applied does not fit to what cannot.
    """
    before, after = _plain(old), _plain(new)
    known = known_fields(after["actors"])
    tree = _plain(old)
    now: list[str] = []
    at_restart: dict[str, list[str]] = {}
    at_start: list[str] = []
    for name in _differing(before, after, known):
        spelled = ".".join(name)
        if name in known and reloads(known[name]) and _there(before, name):
            now.append(spelled)
        elif name[0] == "actors" and len(name) > 2 and name[2] not in _OF_THE_GRAPH:
            at_restart.setdefault(name[1], []).append(spelled)
        else:
            at_start.append(spelled)
            continue
        _put(tree, name, after)
    return Changes(_validated(tree), now, at_restart, at_start)


def _plain(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", by_alias=True)


def _differing(
    old: Mapping[str, Any], new: Mapping[str, Any], known: Mapping[Name, Any], path: Name = ()
) -> Iterator[Name]:
    """The settings whose values differ; an actor that only one of them has is one name."""
    for key in [*old, *(key for key in new if key not in old)]:
        name = (*path, key)
        one, other = old.get(key), new.get(key)
        if one == other:
            continue
        both = isinstance(one, Mapping) and isinstance(other, Mapping)
        if (both and name not in known) or (both and name[-1] == "settings"):
            yield from _differing(one, other, known, name)  # type: ignore[arg-type]
        else:
            yield name


def _there(tree: Mapping[str, Any], name: Name) -> bool:
    value: Any = tree
    for part in name[:-1]:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _put(tree: dict[str, Any], name: Name, source: Mapping[str, Any]) -> None:
    value: Any = source
    for part in name[:-1]:
        tree = tree.setdefault(part, {})
        value = value[part]
    if name[-1] in value:
        tree[name[-1]] = value[name[-1]]
    else:
        tree.pop(name[-1], None)


def _validated(tree: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        reasons = "; ".join(str(one["msg"]) for one in error.errors())
        raise InvalidSettings(
            f"what could be changed now does not fit to what only a start can change: {reasons}; "
            "start noyau anew to change all of it"
        ) from None
