"""The protocol as data: complete, and what the docs say of it is what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protocol.catalogue import catalogue, is_own, summary
from protocol.errors import BY_CODE
from protocol.messages import OPERATIONS

ROOT = Path(__file__).parents[3]
CATALOGUE = catalogue()


def references(value: Any) -> set[str]:
    """Every name of a definition that is referred to in it."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


def test_every_operation_and_every_error_is_in_it() -> None:
    own = [name for name, model in OPERATIONS.items() if is_own(model)]
    assert [one["name"] for one in CATALOGUE["operations"]] == sorted(own)
    assert len(own) > 30
    assert [one["code"] for one in CATALOGUE["errors"]] == sorted(BY_CODE)


def test_every_reference_leads_to_a_definition() -> None:
    assert references(CATALOGUE) == {f"#/$defs/{name}" for name in CATALOGUE["$defs"]}


@pytest.mark.parametrize("one", CATALOGUE["operations"], ids=lambda one: one["name"])
def test_an_operation_says_what_it_is_for_and_what_its_messages_hold(one: dict[str, Any]) -> None:
    bodies = {
        "ask": {"request", "reply"},
        "stream": {"request", "chunk", "end"},
        "event": {"event"},
    }
    plain = {"name", "shape", "role", "idempotent", "meaning"}
    assert one.keys() == plain | bodies[one["shape"]]
    assert one["meaning"].endswith((".", "?"))


def test_byte_strings_are_marked() -> None:
    payload = CATALOGUE["$defs"]["Ping"]["properties"]["payload"]
    assert payload["x-msgpack"] == "bin"
    assert payload["x-maxLength"] == 1 << 20


def test_what_the_code_says_of_a_field_is_in_its_schema() -> None:
    fields = CATALOGUE["$defs"]["Begun"]["properties"]
    assert fields["died"]["description"].startswith("Whether it died with the query in hand")
    assert fields["lost"]["description"].startswith("`NAME.EPOCH` where the client knows")
    described = sum(
        "description" in field
        for definition in CATALOGUE["$defs"].values()
        for field in definition.get("properties", {}).values()
    )
    assert described > 100


def test_a_summary_is_one_sentence() -> None:
    class Documented:
        """Why is it so? Because of e.g.this.

        And more.
        """

    assert summary(Documented) == "Why is it so?"


def test_the_docs_are_what_the_code_is() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
