"""What every tool of the catalogue must do, and that adding one is adding one file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from actors.tool_user.catalogue import load_catalogue
from actors.tool_user.finding import find_exact
from actors.tool_user.limits import Limits
from actors.tool_user.results import shape
from actors.tool_user.runner import Runner
from protocol.errors import InvalidRequest
from protocol.messages.base import OPERATIONS, Ask

CATALOGUE = load_catalogue()
TOOLS = sorted(CATALOGUE.tools)
EXAMPLES = [(tool.name, text) for tool in CATALOGUE for text in sorted(tool.examples)]
DEADLINE_S = 10.0
"""The setting's default: a tool that is well ends far within it."""
JSON_TYPES = {"string", "integer", "number", "boolean", "array", "object", "null"}

ADDED = '''
from typing import Annotated
from pydantic import Field

def shout(text: Annotated[str, Field(description="what to shout")]) -> str:
    """Writes a text in capitals."""
    return text.upper()

def match(text: str) -> dict | None:
    return {"text": text[6:]} if text.startswith("shout ") else None
'''


@contextlib.asynccontextmanager
async def running(folder: Path, *tools: Path) -> AsyncGenerator[Runner]:
    runner = Runner(tools, Limits(), folder / "scratch")
    runner.start()
    try:
        yield runner
    finally:
        await runner.close()


@pytest.fixture
def options(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What the owner grants, so that each example has what it speaks of."""
    (tmp_path / "notes.txt").write_text("milk\n")
    return {"read_file": {"allowed": [str(tmp_path)]}}


def test_every_built_in_file_is_a_tool() -> None:
    assert not CATALOGUE.broken
    assert {"calculator", "clock", "read_file", "recall"} <= set(TOOLS)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_is_described_for_people_and_models(name: str) -> None:
    tool = CATALOGUE.get(name)
    assert tool.description.strip()
    assert tool.examples
    assert name.isidentifier()


@pytest.mark.parametrize("name", TOOLS)
def test_the_schema_is_a_json_schema_in_which_every_argument_is_described(name: str) -> None:
    schema = CATALOGUE.get(name).parameters
    assert json.loads(json.dumps(schema)) == schema
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema.get("required", [])) <= schema["properties"].keys()
    for argument in schema["properties"].values():
        assert argument["description"]
        kinds = [argument] if "type" in argument else argument["anyOf"]
        assert {one["type"] for one in kinds} <= JSON_TYPES


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_an_example_is_found_by_its_text_with_its_arguments(name: str, text: str) -> None:
    complaints: list[str] = []
    found = find_exact(CATALOGUE, text, lambda _, problem: complaints.append(problem))
    assert found is not None
    assert (found.tool.name, found.arguments) == (name, CATALOGUE.get(name).examples[text])
    assert not complaints


async def test_every_example_works_ends_in_time_and_gives_json(
    tmp_path: Path, options: dict[str, dict[str, Any]]
) -> None:
    """In the children; a tool that needs another actor gives the message that it declares."""
    async with running(tmp_path) as runner:
        for tool in CATALOGUE:
            for arguments in tool.examples.values():
                granted = options.get(tool.name, {})
                if tool.runs:
                    message = tool.call(arguments, granted)
                    assert isinstance(message, Ask)
                    assert message.operation == tool.runs
                    assert OPERATIONS[tool.runs] is type(message)
                    continue
                shaped = await runner.run(tool.name, arguments, granted, DEADLINE_S)
                assert json.loads(json.dumps(shaped.value)) == shaped.value
                assert shaped.text
                assert not shaped.truncated


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("wrong", [{"no_such_argument": 1}, {1: 2}], ids=["unknown", "no name"])
def test_arguments_that_it_does_not_take_are_refused(name: str, wrong: dict[Any, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CATALOGUE.get(name).check(wrong)
    assert name in caught.value.message


@pytest.mark.parametrize("name", TOOLS)
def test_each_argument_of_the_wrong_type_is_refused_by_its_name(name: str) -> None:
    tool = CATALOGUE.get(name)
    for argument in tool.arguments_model.model_fields:
        with pytest.raises(InvalidRequest) as caught:
            tool.check({argument: {"of": ["the", "wrong", "type"]}})
        places = [error["at"] for error in caught.value.details["errors"]]
        assert argument in places


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(
    "text", ["", " ", "hello", "\0", "42", "é" * 5000, "()" * 5000, "9" * 9000]
)
def test_a_matcher_leaves_what_is_not_meant_for_it(name: str, text: str) -> None:
    match = CATALOGUE.get(name).match
    assert match is None or match(text) is None


async def test_a_tool_added_as_one_file_is_found_listed_and_run(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "any_name.py").write_text(ADDED)
    catalogue = load_catalogue([folder])
    assert {tool.name for tool in catalogue} == {*TOOLS, "shout"}
    assert not catalogue.broken
    found = find_exact(catalogue, "shout hello", lambda *_: None)
    assert found is not None
    assert found.tool.parameters["properties"]["text"]["description"] == "what to shout"
    async with running(tmp_path, folder) as runner:
        shaped = await runner.run("shout", found.arguments, {}, DEADLINE_S)
    assert shaped == shape("HELLO", 100)


def test_what_a_tool_declares_to_ask_for_is_an_operation() -> None:
    for tool in CATALOGUE:
        assert not tool.runs or issubclass(OPERATIONS[tool.runs], Ask)
        assert issubclass(tool.options_model, BaseModel)
