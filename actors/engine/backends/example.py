"""A small value that fits a JSON schema: what the simulated engine says. Pure.

For the commonest kinds of schemas; of any other the value may not fit.
"""

from __future__ import annotations

import math
from typing import Any

DEEPEST = 64
"""A schema that holds itself ends there."""
LARGEST = 10_000
"""So many parts at most: one that holds itself twice would never end."""


def example(schema: dict[str, Any]) -> Any:
    """The same one each time."""
    return _Example(schema).of(schema, 0)


class _Example:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._left = LARGEST

    def of(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, dict) or depth > DEEPEST or self._left < 0:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if "$ref" in schema:
            return self.of(_referred(schema["$ref"], self._root), depth + 1)
        for several in ("anyOf", "oneOf", "allOf"):
            if schema.get(several):
                return self.of(schema[several][0], depth + 1)
        match _kind(schema):
            case "object":
                known = schema.get("properties", {})
                # In the order of the properties, which is the one that grammars keep to.
                names = schema.get("required", [])
                order = [name for name in known if name in names]
                return {
                    name: self.of(known.get(name), depth + 1)
                    for name in [*order, *(name for name in names if name not in known)]
                }
            case "array":
                count = min(schema.get("minItems", 0), max(0, self._left))
                first = schema.get("prefixItems", [])[:count]
                rest = [schema.get("items", {})] * (count - len(first))
                return [self.of(item, depth + 1) for item in [*first, *rest]]
            case "integer":
                return math.ceil(_number(schema, 1))
            case "number":
                return _number(schema, 0.5)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                least = min(schema.get("minLength", 0), LARGEST)
                return "word".ljust(least, "x")[: schema.get("maxLength")]


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    return str(kind[0] if isinstance(kind, list) else kind)


def _number(schema: dict[str, Any], step: float) -> float:
    """0, or the nearest one within the bounds."""
    least: float | None = schema.get("minimum")
    most: float | None = schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if least is None and above is not None:
        least = above + step
    if most is None and below is not None:
        most = below - step
    if most is not None and most < 0:
        return math.floor(most) if step == 1 else most
    return max(0, least or 0)


def _referred(reference: str, root: dict[str, Any]) -> Any:
    """What a JSON pointer points to; nothing in particular where that is nowhere."""
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name, {}) if part else found
        elif isinstance(found, list):
            found = found[int(name)] if name.isdigit() and int(name) < len(found) else {}
    return found
