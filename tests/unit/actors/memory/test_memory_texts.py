"""What is accepted as text, and how a conversation gets its title."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.memory.texts import TITLE_CHARS, check_text, metadata_as_json, title_of
from protocol.errors import InvalidRequest


@pytest.mark.parametrize("text", ["", "  \n\t ", "\u00a0"])
def test_empty_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="the query is empty"):
        check_text(text, "the query", 10)


def test_empty_text_is_fine_where_it_may_be() -> None:
    check_text("", "the source", 10, empty=True)


def test_text_over_the_bound_is_refused_with_both_numbers_and_at_the_bound_is_not() -> None:
    check_text("x" * 10, "the text", 10)
    with pytest.raises(InvalidRequest, match="11 characters, at most 10") as caught:
        check_text("x" * 11, "the text", 10)
    assert caught.value.details == {"chars": 11, "max_chars": 10}


def test_a_lone_surrogate_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidRequest, match="lone surrogate at character 2"):
        check_text("ab\ud800c", "the text", 10)


def test_nul_and_emoji_are_text() -> None:
    check_text("\0", "the text", 10)
    check_text("😀", "the text", 1)


def test_metadata_is_kept_as_json() -> None:
    assert metadata_as_json({"a": [1, None, "é"]}, 100) == '{"a":[1,null,"é"]}'


@pytest.mark.parametrize(
    "metadata", [{"a": float("nan")}, {"a": {1, 2}}, {"a": "\ud800"}, {"a": "x" * 200}]
)
def test_metadata_that_cannot_be_stored_is_refused(metadata: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        metadata_as_json(metadata, 100)


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Why is the sky blue?", "Why is the sky blue?"),
        ("  two\n lines\t here ", "two lines here"),
        ("nul\0and bell\a", "nul and bell"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("word " * 20, "word " * 11 + "word…"),
        ("", ""),
    ],
)
def test_a_title_is_one_line_cut_at_a_word(content: str, title: str) -> None:
    assert title_of(content) == title


@given(st.text(max_size=200))
def test_a_title_is_never_longer_than_its_bound_and_always_printable(content: str) -> None:
    title = title_of(content)
    assert len(title) <= TITLE_CHARS
    assert title.isprintable()
