"""What pydantic found wrong, as sentences: the place, the setting, the problem and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from configs.checks import CrossProblem, nearest
from configs.describe import known_fields, unit
from configs.layers import Layer, Name, SettingProblem, Tree, origin

# pydantic's error type: what the value is not, and what to give
_WANTED = {
    "bool_type": ("true or false", "give one of the two, without quotes"),
    "dict_type": ("a table", "give settings by name under it"),
    "finite_number": ("a finite number", "give a number"),
    "float_type": ("a number", "give a number, without quotes"),
    "int_type": ("a whole number", "give one, without quotes or fraction"),
    "list_type": ("a list", 'give one, such as ["cpu_engine"]'),
    "model_type": ("a table", "give settings by name under it"),
    "path_type": ("a path", "give one in quotes"),
    "string_type": ("text", 'give it in quotes, such as "42"'),
}
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


class Reporter:
    """Turns errors in the merged ``tree`` into problems that name the layer they came from."""

    def __init__(self, layers: Sequence[Layer], tree: Tree) -> None:
        self._layers = layers
        actors = tree.get("actors")
        self._known = known_fields(actors if isinstance(actors, Mapping) else {})
        self._actors = sorted(_well_formed(actors))

    def problems(self, error: ValidationError) -> list[SettingProblem]:
        """One problem for each error in a single setting, in the schema's order."""
        found = error.errors(include_url=False)
        return [self._problem(one) for one in found if one["type"] != "contradiction"]

    def cross_problem(self, found: CrossProblem) -> SettingProblem:
        """A contradiction, laid at the door of the setting that was given last."""
        layer, setting = max(
            ((origin(self._layers, setting), setting) for setting in found.involved),
            key=lambda pair: self._layers.index(pair[0]),
        )
        return SettingProblem(layer.place, ".".join(setting), found.problem, found.remedy)

    def _problem(self, error: ErrorDetails) -> SettingProblem:
        # "[key]" marks that not a value but the name itself is wrong; a number is a list's item,
        # and layers replace lists as a whole.
        setting = tuple(part for part in error["loc"] if isinstance(part, str) and part != "[key]")
        layer = origin(self._layers, setting)
        problem, remedy = self._sentence(error, setting, layer)
        return SettingProblem(layer.place, ".".join(setting), problem, remedy)

    def _sentence(self, error: ErrorDetails, setting: Name, layer: Layer) -> tuple[str, str]:
        kind, given, context = error["type"], error["input"], error.get("ctx", {})
        field = self._known.get(setting)
        if kind == "wrong":
            return context["problem"], context["remedy"]
        if kind == "extra_forbidden":
            return "there is no such setting", self._alike(setting, layer)
        if kind == "missing":
            return self._missing(setting)
        if kind in _BOUNDS and field is not None:
            return f"{_shown(given)} is out of bounds", f"give {_bounds(setting[-1], field)}"
        if kind == "literal_error":
            return f"{_shown(given)} is none of the choices", f"give {context['expected']}"
        if kind == "string_too_short":
            return "the text is empty", "give some text, or leave the setting out"
        if kind in _WANTED:
            wanted, remedy = _WANTED[kind]
            return f"{_shown(given)} is not {wanted}", remedy
        # A kind that no setting raises today; pydantic's own words still say what it wants.
        return f"{_shown(given)} does not fit", error["msg"][:1].lower() + error["msg"][1:]

    def _alike(self, setting: Name, layer: Layer) -> str:
        """The known name nearest to the whole name that was written, in that place's spelling."""
        written = layer.assigned if layer.assigned[: len(setting)] == setting else setting
        names = {".".join(path): path for path in self._known}
        names |= {".".join(path[:-1]): path[:-1] for path in self._known}
        # A table's own name is like that of anything in it, and of no help to who wrote it right.
        alike = [name for name, path in names.items() if path != written[: len(path)]]
        found = nearest(".".join(written), alike)
        if found is not None:
            return f"did you mean {layer.spell(names[found])}?"
        beside = sorted({p[len(setting) - 1] for p in self._known if p[:-1] == setting[:-1]})
        beside = beside or sorted({path[0] for path in self._known})
        return f"known here: {', '.join(beside)}"

    def _missing(self, setting: Name) -> tuple[str, str]:
        if len(setting) != 3 or setting[0] != "actors":
            return "it is missing", "give a value"
        alike = nearest(setting[1], [name for name in self._actors if name != setting[1]])
        remedy = 'name its class, such as class = "package.module:Class"'
        if alike:
            remedy = f"did you mean actors.{alike}? If it is a new actor, {remedy}"
        return f"the actor {setting[1]} has no class", remedy


def _bounds(name: str, field: FieldInfo) -> str:
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    what = f" {unit(name)}" if unit(name) else ""
    if low is not None and high is not None:
        return f"{low} to {high}{what}"
    return f"at least {low}{what}" if high is None else f"at most {high}{what}"


def _shown(value: Any) -> str:
    """The value as a file would write it, cut to a length that a line can bear."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _well_formed(actors: object) -> list[str]:
    if not isinstance(actors, Mapping):
        return []
    return [
        name for name, entry in actors.items() if isinstance(entry, Mapping) and "class" in entry
    ]
