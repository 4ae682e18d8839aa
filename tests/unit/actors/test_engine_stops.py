"""Stop strings end an answer right before them, wherever the tokens cut them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.backends import Piece
from actors.engine.backends.stops import StopStrings


def said(stops: StopStrings, tokens: list[str]) -> list[Piece]:
    """All pieces of these tokens, whose ids are their numbers."""
    pieces = []
    for number, token in enumerate(tokens):
        piece = stops.add(token, [number])
        if piece is not None:
            pieces.append(piece)
        if stops.found:
            return pieces
    rest = stops.rest()
    return [*pieces, rest] if rest is not None else pieces


def test_without_stop_strings_every_token_is_said_at_once() -> None:
    assert said(StopStrings([]), ["a", "b"]) == [Piece("a", [0], 1), Piece("b", [1], 1)]


def test_text_ends_right_before_a_stop_string_within_a_token() -> None:
    stops = StopStrings(["stop"])
    pieces = said(stops, ["go on", " until stop and more", "never"])
    assert "".join(piece.text for piece in pieces) == "go on until "
    assert stops.found


def test_a_stop_string_across_tokens_is_never_said() -> None:
    stops = StopStrings(["END"])
    pieces = said(stops, ["text E", "N", "D", "never"])
    assert "".join(piece.text for piece in pieces) == "text "
    assert stops.found


def test_what_might_have_become_a_stop_string_is_said_after_all_with_its_ids() -> None:
    pieces = said(StopStrings(["END"]), ["E", "N", "x", "y"])
    assert pieces == [Piece("ENx", [0, 1, 2], 3), Piece("y", [3], 1)]


def test_what_is_held_back_at_the_end_is_said() -> None:
    assert said(StopStrings(["END"]), ["a", "EN"]) == [Piece("a", [0], 1), Piece("EN", [1], 1)]


def test_text_that_was_cut_has_no_ids() -> None:
    (piece,) = said(StopStrings(["c"]), ["abcd"])
    assert piece == Piece("ab", [], 1)


def test_ids_that_are_not_known_make_none_of_the_piece_known() -> None:
    stops = StopStrings(["END"])
    assert stops.add("E", []) is None
    assert stops.add("x", [7]) == Piece("Ex", [], 2)
    assert stops.add("y", [8]) == Piece("y", [8], 1)


def test_the_first_of_several_stop_strings_counts() -> None:
    (piece,) = said(StopStrings(["later", "now", ""]), ["a now b later"])
    assert piece.text == "a "


@given(
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=2),
)
def test_it_says_what_comes_before_the_first_stop_string_and_nothing_else(
    tokens: list[str], stop: list[str]
) -> None:
    stops = StopStrings(stop)
    text = "".join(piece.text for piece in said(stops, tokens))
    whole = ""
    # The answer ends with the token in which a stop string becomes complete.
    for token in tokens:
        whole += token
        found = [whole.find(one) for one in stop if one in whole]
        if found:
            assert text == whole[: min(found)]
            assert stops.found
            return
    assert text == whole
    assert not stops.found


@pytest.mark.parametrize("length", [1, 100])
def test_it_holds_back_no_more_than_a_stop_string_begins_with(length: int) -> None:
    stops = StopStrings(["b" + "a" * length])
    assert stops.add("aaaa", [1]) == Piece("aaaa", [1], 1)
    assert stops.add("b", [2]) is None
