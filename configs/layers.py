"""Settings come in layers: each a tree of values and the place it came from; later ones win.

Pure functions: reading files and the environment is `load.py`'s part.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.endpoints import CLIENT_VARIABLES

PREFIX = "NOYAU_"
FILE_VARIABLE = "NOYAU_CONFIG"
NO_SETTINGS = {FILE_VARIABLE, *CLIENT_VARIABLES}
"""Variables that are for programs, and name no setting."""

Tree = dict[str, Any]
Name = tuple[str, ...]

_SYNTAX_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


@dataclass(frozen=True)
class Layer:
    """Values from one place. ``place`` is how messages call it: ``variable NOYAU_RUN__FOLDER``.

    ``assigned`` is the one setting that a variable or ``--set`` names, empty for a whole file.
    """

    place: str
    values: Tree
    assigned: Name = ()

    def spell(self, setting: Name) -> str:
        """The setting's name as it is written in this place."""
        if self.place.startswith("variable "):
            return variable_name(setting)
        return ".".join(setting)


@dataclass(frozen=True)
class SettingProblem:
    """One thing that is wrong: where it came from, which setting, what, and what would be right."""

    place: str
    setting: str
    problem: str
    remedy: str

    def line(self) -> str:
        """The problem as one line for people."""
        parts = [self.place, self.setting, f"{self.problem}; {self.remedy}"]
        return " ".join(": ".join(part for part in parts if part).split())


def variable_name(setting: Name) -> str:
    """``("run", "folder")`` as ``NOYAU_RUN__FOLDER``."""
    return PREFIX + "__".join(setting).upper()


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """A new tree with the names of both. Tables are merged; any other value of ``over`` wins."""
    merged = dict(base)
    for name, value in over.items():
        if isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def merge_layers(layers: Sequence[Layer]) -> Tree:
    """The tree of all layers, the last one winning."""
    tree: Tree = {}
    for layer in layers:
        tree = merge(tree, layer.values)
    return tree


def origin(layers: Sequence[Layer], setting: Name) -> Layer:
    """The layer a value came from; for a missing one, the layer that began its table.

    A setting that no layer mentions belongs to the first layer, the defaults.
    """
    for layer in reversed(layers):
        if _holds(layer.values, setting):
            return layer
    for length in range(len(setting) - 1, 0, -1):
        for layer in layers:
            if _holds(layer.values, setting[:length]):
                return layer
    return layers[0]


def from_variables(environ: Mapping[str, str]) -> tuple[list[Layer], list[SettingProblem]]:
    """One layer for each ``NOYAU_…`` variable but those in `NO_SETTINGS`, sorted by name.

    Sorted, so that ``NOYAU_RUN`` (an inline table) stands below ``NOYAU_RUN__FOLDER``.
    """
    layers, problems = [], []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NO_SETTINGS:
            continue
        setting = tuple(name.removeprefix(PREFIX).lower().split("__"))
        place = f"variable {name}"
        if all(setting):
            layers.append(Layer(place, nested(setting, parse_value(environ[name])), setting))
        else:
            problems.append(
                SettingProblem(
                    place, "", "the name has an empty part", "write it like NOYAU_RUN__FOLDER"
                )
            )
    return layers, problems


def from_assignments(texts: Sequence[str]) -> tuple[list[Layer], list[SettingProblem]]:
    """One layer for each ``NAME=VALUE``, in the order given."""
    layers, problems = [], []
    for text in texts:
        name, equals, value = text.partition("=")
        setting = tuple(part.strip() for part in name.split("."))
        place = f"--set {text if len(text) <= 80 else text[:79] + '…'}"
        if equals and all(setting):
            layers.append(Layer(place, nested(setting, parse_value(value)), setting))
        else:
            problem = "the name has an empty part" if equals else "there is no value"
            remedy = "write NAME=VALUE, such as --set query.deadline_s=60"
            problems.append(SettingProblem(place, "", problem, remedy))
    return layers, problems


def nested(setting: Name, value: Any) -> Tree:
    """``("a", "b"), 1`` as ``{"a": {"b": 1}}``."""
    for name in reversed(setting):
        value = {name: value}
    return dict(value)


def parse_value(text: str) -> Any:
    """The text as a TOML value where it is one, else the text itself.

    A date stays text, since no setting takes one and names may look like it.
    """
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # also numbers of more digits than Python converts
        return text
    # A text with line breaks can smuggle in further lines; it is then no value but plain text.
    value = found.pop("value")
    kept = isinstance(value, (bool, int, float, str, list, dict)) and not found
    return value if kept else text


def parse_file(text: str, place: str) -> tuple[Tree, list[SettingProblem]]:
    """A TOML text as a tree; where its syntax is wrong, an empty tree and the line and column."""
    try:
        return tomllib.loads(text), []
    except (ValueError, RecursionError) as error:
        match = _SYNTAX_PLACE.fullmatch(str(error))
        reason, line, column = match.groups() if match else (str(error), None, None)
        if line is None:
            lines = text.split("\n")
            line, column = str(len(lines)), str(len(lines[-1]) + 1)
        where = f"{place}, line {line}, column {column}"
        remedy = 'write it as TOML: NAME = VALUE, text in "quotes"'
        return {}, [SettingProblem(where, "", f"{reason[:1].lower()}{reason[1:]}", remedy)]


def _holds(values: Mapping[str, Any], setting: Name) -> bool:
    value: Any = values
    for name in setting:
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    return True
