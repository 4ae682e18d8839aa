"""Formats of answers: what cannot be kept to is refused with the reason, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest

from actors.engine.formats import check_format
from protocol.errors import InvalidRequest
from protocol.messages.engine import Format


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"$defs": {"p": {"type": "string"}}, "$ref": "#/$defs/p"},
        {"enum": ["Köln", "東京", None, 1]},
        {"type": "string", "pattern": "^[a-z]+$"},
        nested(20),
    ],
)
def test_a_schema_that_can_be_kept_to_is_taken(schema: dict[str, Any]) -> None:
    check_format(Format(json_schema=schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": "object", "required": 3},
        {"type": "string", "pattern": "("},
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "http://example.org/schema.json"},
        {"not": {}},
        {"const": float("nan")},
        {"minimum": float("inf"), "type": "number"},
        {"const": "\ud800"},
        {"const": b"bytes"},
        {b"bytes": 1},
        {"const": object()},
        nested(200),
        nested(100_000),
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(20_000)},
         "required": [f"p{n}" for n in range(20_000)]},
    ],
)  # fmt: skip
def test_a_schema_that_cannot_is_refused_with_the_reason(schema: dict[str, Any]) -> None:
    wanted = Format.model_construct(json_schema=schema, grammar="")
    with pytest.raises(InvalidRequest, match=r"the JSON schema is not usable: ."):
        check_format(wanted)


@pytest.mark.parametrize(
    "grammar",
    ['root ::= "yes" | "no"', "root ::= [0-9]+", '%llguidance {}\nstart: "yes" | "no"'],
)
def test_a_grammar_that_can_be_kept_to_is_taken(grammar: str) -> None:
    check_format(Format(grammar=grammar))


@pytest.mark.parametrize(
    "grammar",
    [
        " ",
        "root := x",
        "root ::= nowhere",
        'root ::= "\x00"',
        'root ::= "',
        "%llguidance {}\nfoo",
        "%llguidance {}\nstart: nowhere",
        "root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000,
        "%llguidance {}\nstart: " + "(" * 30_000 + '"a"' + ")" * 30_000,
    ],
    ids=lambda grammar: repr(grammar)[:40],
)
def test_a_grammar_that_cannot_is_refused_with_the_reason(grammar: str) -> None:
    with pytest.raises(InvalidRequest, match=r"the grammar is not usable: ."):
        check_format(Format(grammar=grammar))


def test_an_answer_has_one_format_and_not_two() -> None:
    with pytest.raises(InvalidRequest, match="not both"):
        check_format(Format(json_schema={}, grammar='root ::= "a"'))


@pytest.mark.parametrize("wanted", [None, Format()])
def test_no_format_is_fine(wanted: Format | None) -> None:
    check_format(wanted)
