"""Every test that docs/threats.md names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`([\w/.-]+\.py)::(\w+)`", (ROOT / "docs" / "threats.md").read_text())


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_the_page_names_exists(file: str, test: str) -> None:
    (path,) = (ROOT / "tests").rglob(Path(file).name)
    module = ast.parse(path.read_text())
    assert test in {
        one.name
        for one in ast.walk(module)
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    }
