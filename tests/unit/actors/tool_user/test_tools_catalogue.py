"""One file, one annotated function, one tool; a file that is none harms nobody else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors.tool_user.catalogue import Catalogue, assemble, load_catalogue, read_folder
from protocol.errors import InvalidRequest, InvalidSettings, NotFound

GOOD = '''
from typing import Annotated
from pydantic import Field

EXAMPLES = {"greet Ann": {"name": "Ann"}}

def greet(name: Annotated[str, Field(description="whom")], times: int = 1, *, word: str = "hello"):
    """Greets somebody."""
    return f"{word} {name}" * times

def match(text):
    return {"name": text[6:]} if text.startswith("greet ") else None
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    return tmp_path / "tools"


def load(folder: Path, **files: str) -> Catalogue:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return assemble(read_folder(folder))


def test_name_description_and_schema_come_from_the_function(folder: Path) -> None:
    tool = load(folder, anything=GOOD).get("greet")
    assert tool.description == "Greets somebody."
    assert tool.examples == {"greet Ann": {"name": "Ann"}}
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "title": "Name", "description": "whom"},
            "times": {"type": "integer", "title": "Times", "default": 1},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def test_keyword_only_parameters_are_the_owners_and_no_callers(folder: Path) -> None:
    tool = load(folder, a=GOOD).get("greet")
    assert tool.call({"name": "Ann"}, {"word": "good day"}) == "good day Ann"
    with pytest.raises(InvalidRequest, match="word"):
        tool.check({"name": "Ann", "word": "x"})
    with pytest.raises(InvalidSettings, match=r"here\.word: .*valid string"):
        tool.check_options({"word": 3}, "here")


def test_wrong_arguments_are_all_listed_with_their_places(folder: Path) -> None:
    tool = load(folder, a=GOOD).get("greet")
    with pytest.raises(InvalidRequest) as caught:
        tool.check({"times": "many", "loud": True})
    places = [error["at"] for error in caught.value.details["errors"]]
    assert sorted(places) == ["loud", "name", "times"]
    assert "it takes: name, times" in caught.value.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def broken(:", "SyntaxError"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("raise SystemExit(3)", "SystemExit"),
        ("X = 1", "there are 0 here"),
        ('def a():\n  "a"\ndef b():\n  "b"', r"2 here \(a, b\)"),
        ("def mute(): pass", "no docstring"),
        ('def f(x):\n  "f"', "x of f has no annotation"),
        ('def f(*x: int):\n  "f"', r"takes \*x"),
        ('def f(x: "Nothing"):\n  "f"', "annotation of f means nothing"),
        ('class C: pass\ndef f(x: C):\n  "f"', "no JSON form"),
        ('async def f(x: int):\n  "f"', "plain function"),
        ('EXAMPLES = [1]\ndef f(x: int):\n  "f"', "EXAMPLES must be a dict"),
    ],
)
def test_a_file_that_is_no_tool_is_named_with_the_reason_and_the_others_go_on(
    folder: Path, text: str, problem: str
) -> None:
    catalogue = load(folder, bad=text, good=GOOD)
    assert list(catalogue.tools) == ["greet"]
    (broken,) = catalogue.broken
    assert broken.file == folder / "bad.py"
    assert re.search(problem, broken.problem), broken.problem


def test_two_tools_of_one_name_are_told_with_both_files(folder: Path) -> None:
    catalogue = load(folder, a=GOOD, b=GOOD)
    assert catalogue.tools["greet"].call({"name": "A"}, {}) == "hello A"
    (broken,) = catalogue.broken
    assert broken.file == folder / "b.py"
    assert str(folder / "a.py") in broken.problem


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    catalogue = load_catalogue([tmp_path / "nowhere"])
    (broken,) = catalogue.broken
    assert broken.file == tmp_path / "nowhere"
    assert "calculator" in catalogue.tools


def test_files_that_begin_with_an_underscore_are_helpers(folder: Path) -> None:
    catalogue = load(folder, _helper="X = 1", good=GOOD)
    assert not catalogue.broken


def test_a_tool_that_is_switched_off_is_not_there() -> None:
    catalogue = load_catalogue(switched_off=["clock"])
    assert not catalogue.broken
    with pytest.raises(NotFound, match="there are: calculator, read_file"):
        catalogue.get("clock")


def test_matchers_are_asked_in_their_order_then_by_name(folder: Path) -> None:
    texts = {
        name: GOOD.replace("greet", name) + f"\nMATCH_ORDER = {order}"
        for name, order in (("late", 9), ("early", 1), ("also_early", 1))
    }
    names = [tool.name for tool in load(folder, **texts).matchers()]
    assert names == ["also_early", "early", "late"]
