"""Which tool a text is meant for: matchers first, then likeness."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from actors.tool_user.catalogue import Catalogue, assemble, read_folder
from actors.tool_user.finding import (
    MATCHED_CHARACTERS,
    Nearest,
    Similarity,
    find_exact,
    texts_of,
)

TOOL = '''
MATCH_ORDER = {order}
EXAMPLES = {{"b text": {{"x": 1}}, "a text": {{"x": 2}}}}
def {name}(x: int):
    """Summary of {name}.

    More."""
def match(text):
    {match}
'''


@pytest.fixture
def complaints() -> list[tuple[str, str]]:
    return []


def catalogue_of(folder: Path, **matchers: str) -> Catalogue:
    for order, (name, match) in enumerate(matchers.items()):
        (folder / f"{name}.py").write_text(TOOL.format(name=name, order=order, match=match))
    found = assemble(read_folder(folder))
    assert not found.broken
    return found


def find(catalogue: Catalogue, complaints: list[tuple[str, str]]) -> str | None:
    found = find_exact(catalogue, "text", lambda *one: complaints.append(one))
    return None if found is None else f"{found.tool.name} {found.arguments}"


def test_the_first_matcher_that_says_yes_has_it(
    tmp_path: Path, complaints: list[tuple[str, str]]
) -> None:
    catalogue = catalogue_of(
        tmp_path, none="return None", yes="return {'x': 1}", late="return {'x': 2}"
    )
    assert find(catalogue, complaints) == "yes {'x': 1}"
    assert not complaints


def test_that_no_matcher_says_yes_is_normal(
    tmp_path: Path, complaints: list[tuple[str, str]]
) -> None:
    assert find(catalogue_of(tmp_path, one="return None"), complaints) is None
    assert not complaints


def test_a_long_text_is_not_shown_to_matchers(
    tmp_path: Path, complaints: list[tuple[str, str]]
) -> None:
    catalogue = catalogue_of(tmp_path, one="return {'x': 1}")
    complain = lambda *one: complaints.append(one)  # noqa: E731
    assert find_exact(catalogue, "x" * MATCHED_CHARACTERS, complain) is not None
    assert find_exact(catalogue, "x" * (MATCHED_CHARACTERS + 1), complain) is None


@pytest.mark.parametrize("bad", ["1 / 0", "return {'y': 1}", "return 'yes'", "return {'x': 'q'}"])
def test_a_matcher_that_fails_counts_as_no_and_is_told(
    tmp_path: Path, complaints: list[tuple[str, str]], bad: str
) -> None:
    catalogue = catalogue_of(tmp_path, bad=bad, good="return {'x': 1}")
    assert find(catalogue, complaints) == "good {'x': 1}"
    assert [name for name, _ in complaints] == ["bad"]


def test_a_tool_is_compared_by_its_summary_and_its_examples(tmp_path: Path) -> None:
    texts = texts_of(catalogue_of(tmp_path, one="return None"))
    assert texts == [("one", "Summary of one."), ("one", "a text"), ("one", "b text")]


def test_the_best_text_of_a_tool_counts_and_the_score_is_the_cosine() -> None:
    similarity = Similarity([("a", "1"), ("a", "2"), ("b", "1")], [[1, 0], [0, 5], [-1, 0]])
    found = similarity.nearest([3, 4])
    assert found is not None
    assert found.tool == "a"
    assert math.isclose(found.score, 0.8)
    assert similarity.nearest([-2, 0]) == Nearest("b", 1.0)


def test_a_text_that_means_nothing_is_like_nothing() -> None:
    found = Similarity([("a", "1")], [[1, 0]]).nearest([0, 0])
    assert found == Nearest("a", 0.0)


def test_without_tools_nothing_is_nearest() -> None:
    assert Similarity([], []).nearest([1, 0]) is None


def test_vectors_of_another_length_are_not_compared() -> None:
    assert Similarity([("a", "1")], [[1, 0]]).nearest([1, 0, 0]) is None


@pytest.mark.parametrize("vectors", [[[1, 0]], [[1, 0], [1]]], ids=["too few", "uneven"])
def test_vectors_that_do_not_fit_the_texts_are_refused(vectors: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="vectors for 2 texts"):
        Similarity([("a", "1"), ("b", "1")], vectors)
