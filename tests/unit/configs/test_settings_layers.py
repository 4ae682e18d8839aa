"""Laws of merging and of reading a text as a value."""

from __future__ import annotations

import copy
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from configs.describe import toml_text
from configs.layers import Layer, merge, merge_layers, nested, origin, parse_file, parse_value

SETTINGS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)
TREES = st.dictionaries(SETTINGS, st.integers(0, 9), max_size=6).map(
    lambda values: merge_layers([Layer("", nested(*item)) for item in values.items()])
)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(st.characters(exclude_characters="\x7f")),
    lambda inner: st.lists(inner, max_size=3),
)


def leaves(tree: dict[str, Any], at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        found |= leaves(value, (*at, name)) if isinstance(value, dict) else {(*at, name): value}
    return found


@given(TREES, TREES)
def test_every_leaf_of_the_later_tree_wins(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = leaves(merge(base, over))
    assert leaves(over).items() <= merged.items()
    assert merged.items() <= {**leaves(base), **leaves(over)}.items()


@given(TREES, TREES)
def test_merging_changes_neither_tree(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    merge(base, over)
    assert (base, over) == before


@given(TREES)
def test_merging_with_nothing_or_itself_changes_nothing(tree: dict[str, Any]) -> None:
    assert merge(tree, {}) == merge({}, tree) == merge(tree, tree) == tree


@given(st.lists(TREES, min_size=1, max_size=4))
def test_a_value_s_origin_is_a_layer_that_holds_it(trees: list[dict[str, Any]]) -> None:
    layers = [Layer(str(number), tree) for number, tree in enumerate(trees)]
    for setting, value in leaves(merge_layers(layers)).items():
        assert leaves(origin(layers, setting).values)[setting] == value


def test_a_setting_nobody_mentions_comes_from_the_first_layer() -> None:
    layers = [Layer("default", {}), Layer("file", {"run": {}})]
    assert origin(layers, ("query", "deadline_s")).place == "default"


@given(VALUES)
def test_a_value_written_as_toml_comes_back(value: Any) -> None:
    assert parse_value(toml_text(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_written_as_toml_comes_back(value: float) -> None:
    assert math.isclose(parse_value(str(value)), value)


@given(st.text())
def test_any_text_is_some_value(text: str) -> None:
    assert isinstance(parse_value(text), (bool, int, float, str, list, dict))


@given(st.text())
def test_any_file_is_a_tree_or_a_problem(text: str) -> None:
    tree, problems = parse_file(text, "configs file x")
    assert not (tree and problems)


def test_further_lines_are_no_part_of_a_value() -> None:
    assert parse_value("1\nother = 2") == "1\nother = 2"


def test_a_date_stays_text() -> None:
    assert parse_value("2024-01-31") == "2024-01-31"


def test_a_number_of_too_many_digits_stays_text() -> None:
    assert parse_value("9" * 5000) == "9" * 5000


def test_a_name_nests_its_value() -> None:
    assert nested(("a", "b"), 1) == {"a": {"b": 1}}
