"""A small value that fits a JSON schema: what the simulated engine says. Pure.

For the commonest kinds of schemas; of any other the value may not fit.
"""

from __future__ import annotations

from typing import Any

DEEPEST = 64
"""A schema that holds itself ends there."""


def example(schema: dict[str, Any]) -> Any:
    """The same one each time."""
    return _example(schema, schema, 0)


def _example(schema: Any, root: dict[str, Any], depth: int) -> Any:
    if not isinstance(schema, dict) or depth > DEEPEST:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return _example(_referred(schema["$ref"], root), root, depth + 1)
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return _example(schema[several][0], root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            known = schema.get("properties", {})
            return {
                name: _example(known.get(name), root, depth + 1)
                for name in schema.get("required", [])
            }
        case "array":
            item = schema.get("items", {})
            return [_example(item, root, depth + 1) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "word".ljust(schema.get("minLength", 0), "x")


def _referred(reference: str, root: dict[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(part, {}) if part and isinstance(found, dict) else found
    return found
