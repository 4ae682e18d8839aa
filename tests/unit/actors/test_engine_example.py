"""The value that the simulated engine makes for a schema: it fits, as llguidance sees it."""

from __future__ import annotations

import json
from typing import Any

import llguidance
import pytest

from actors.engine.backends.example import LARGEST, example

TOKENIZER = llguidance.LLTokenizer("byte")


def fits(value: Any, schema: dict[str, Any]) -> bool:
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    matcher = llguidance.LLMatcher(TOKENIZER, grammar)
    tokens = TOKENIZER.tokenize_str(json.dumps(value))
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 3},
        "age": {"type": "integer", "minimum": 18},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2},
    },
    "required": ["age", "name", "tags"],
}


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"type": "string"},
        {"type": "string", "minLength": 10},
        {"type": "string", "maxLength": 2},
        {"type": "string", "minLength": 2, "maxLength": 3},
        {"type": "integer"},
        {"type": "integer", "maximum": -3},
        {"type": "integer", "minimum": -5},
        {"type": "integer", "minimum": 0.5},
        {"type": "integer", "exclusiveMinimum": 4},
        {"type": "integer", "exclusiveMaximum": 0},
        {"type": "number", "minimum": 1.5, "maximum": 2},
        {"type": "number", "exclusiveMinimum": 1},
        {"type": "number", "exclusiveMaximum": -1},
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["integer", "null"]},
        {"const": {"a": [1, "b"]}},
        {"enum": [None, 1]},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"},
         "minItems": 3},
        {"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"},
        {"properties": {"next": {"$ref": "#"}}, "type": "object"},
    ],
    ids=lambda schema: json.dumps(schema)[:60],
)  # fmt: skip
def test_it_fits_the_common_kinds(schema: dict[str, Any]) -> None:
    assert fits(example(schema), schema)


def test_a_reference_may_lead_through_a_list() -> None:
    schema = {"allOf": [{"$ref": "#/x/1"}], "x": [{"type": "null"}, {"type": "boolean"}]}
    assert example(schema) is True


def test_it_is_the_same_each_time() -> None:
    assert example(PERSON) == example(PERSON)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"l": {"$ref": "#"}, "r": {"$ref": "#"}},
         "required": ["l", "r"]},
        {"$ref": "#"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**12},
        {"type": "string", "minLength": 10**12},
    ],
    ids=lambda schema: json.dumps(schema)[:40],
)  # fmt: skip
def test_it_ends_though_the_schema_does_not(schema: dict[str, Any]) -> None:
    assert len(json.dumps(example(schema))) < 100 * LARGEST


@pytest.mark.parametrize("schema", [{"$ref": "#/nowhere"}, {"type": []}, {"properties": {}}])
def test_what_says_little_has_some_value(schema: dict[str, Any]) -> None:
    example(schema)
