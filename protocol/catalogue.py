"""The protocol as data: every message with its JSON Schema, every kind, role and error code. Pure.

What ``noyau protocol schema`` prints, and what the tables of docs/protocol.md are made from.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import core_schema

from protocol import messages
from protocol.codec import DEFAULT_MAX_FRAME_BYTES
from protocol.envelope import ID_BYTES, MAGIC, VERSION, Envelope, Kind, Priority
from protocol.errors import BY_CODE, NoyauError
from protocol.messages import OPERATIONS, Ask, Event, Message, Operation, Role, Stream

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_PREFIX = "#/$defs/"


class _Schema(GenerateJsonSchema):
    """JSON Schema of what crosses the wire as msgpack, which has byte strings."""

    def bytes_schema(self, schema: core_schema.BytesSchema) -> dict[str, Any]:
        """JSON has no form for these: any value stands for one, marked as msgpack's `bin`."""
        given = {"minLength": schema.get("min_length"), "maxLength": schema.get("max_length")}
        bounds = {f"x-{name}": value for name, value in given.items() if value is not None}
        return {"x-msgpack": "bin", **bounds}


def catalogue() -> dict[str, Any]:
    """All that is noyau's own, as JSON can hold it. ``operations`` name their bodies by reference
    into ``$defs``."""
    operations = [one for _, one in sorted(OPERATIONS.items()) if is_own(one)]
    bodies = {model for operation in operations for _, model in _bodies(operation)}
    ordered = sorted(bodies, key=lambda model: model.__name__)
    references, schema = models_json_schema(
        [(model, "validation") for model in ordered],
        ref_template=_PREFIX + "{model}",
        schema_generator=_Schema,
    )
    for model in _with_subclasses(Message):
        _describe(schema["$defs"].get(model.__name__, {}), model)
    return {
        "$schema": JSON_SCHEMA,
        "title": "Messages of noyau's protocol",
        "envelope": {
            "magic": chr(MAGIC),
            "version": VERSION,
            "id_bytes": ID_BYTES,
            "fields": list(Envelope.__struct_fields__),
            "max_frame_bytes": DEFAULT_MAX_FRAME_BYTES,
        },
        "kinds": {kind.name.lower(): kind.value for kind in Kind},
        "priorities": {priority.name.lower(): priority.value for priority in Priority},
        "roles": [role.name.lower() for role in Role],
        "errors": [_error(BY_CODE[code]) for code in sorted(BY_CODE)],
        "operations": [
            _operation(one, {model: references[model, "validation"] for _, model in _bodies(one)})
            for one in operations
        ],
        "$defs": schema["$defs"],
    }


def _with_subclasses(model: type[Message]) -> list[type[Message]]:
    found = [model]
    for child in model.__subclasses__():
        found += _with_subclasses(child)
    return found


def _describe(schema: dict[str, Any], model: type[Message]) -> None:
    """Put what the code says below its fields into the schema of a model."""
    if schema.get("properties"):
        for name, text in _field_docs(model).items():
            schema["properties"].get(name, {}).setdefault("description", text)


def _field_docs(model: type[Message]) -> dict[str, str]:
    """The text that stands below each field. Pydantic could read it too, but for every model at
    every import."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in itertools.pairwise(definition.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                found[name] = " ".join(inspect.cleandoc(text).split()).replace("``", "`")
    return found


def _bodies(operation: type[Operation]) -> list[tuple[str, type[Message]]]:
    """What each kind of message of an operation holds."""
    if issubclass(operation, Ask):
        return [("request", operation), ("reply", operation.reply_type())]
    if issubclass(operation, Stream):
        chunk, end = operation.chunk_type(), operation.end_type()
        return [("request", operation), ("chunk", chunk), ("end", end)]
    return [("event", operation)]


def is_own(operation: type[Operation]) -> bool:
    """Whether it is one of noyau's own, and not of an actor that somebody added."""
    return operation.__module__.startswith(f"{messages.__name__}.")


def shape_of(operation: type[Operation]) -> str:
    """``ask``, ``stream`` or ``event``."""
    shapes = {Ask: "ask", Stream: "stream", Event: "event"}
    return next(shape for base, shape in shapes.items() if issubclass(operation, base))


def _operation(
    operation: type[Operation], references: dict[type[Message], dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": operation.operation,
        "shape": shape_of(operation),
        "role": operation.role.name.lower(),
        "idempotent": bool(getattr(operation, "idempotent", False)),
        "meaning": summary(operation),
        **{kind: references[model] for kind, model in _bodies(operation)},
    }


def _error(cls: type[NoyauError]) -> dict[str, Any]:
    base = cls.__bases__[0]
    return {
        "code": cls.code,
        "parent": base.code if issubclass(base, NoyauError) else None,
        "retryable": cls.retryable,
        "meaning": summary(cls),
    }


def summary(cls: type[object]) -> str:
    """The first sentence of its documentation."""
    text = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split()).replace("``", "`")
    for end, character in enumerate(text):
        if character in ".?" and text[end + 1 : end + 2] in ("", " "):
            return text[: end + 1]
    return text.removesuffix("::") + "."
