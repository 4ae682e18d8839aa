"""What is text and what is garbage, and that nothing of garbage is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.misbehaving import GARBAGE
from actors.orchestrator.garbage import ENOUGH, HELD_CHARS, REPLACEMENT, GarbageFilter, is_garbage
from protocol.errors import EngineGarbage
from protocol.messages.engine import Tokens

BAD = REPLACEMENT


def said(*texts: str) -> tuple[str, bool]:
    """What is said of these pieces, and whether they turned out to be garbage."""
    filter_, told = GarbageFilter(), ""
    try:
        for text in texts:
            told += "".join(one.text for one in filter_.take(Tokens(text=text)))
    except EngineGarbage:
        return told, True
    return told + "".join(one.text for one in filter_.rest()), False


@pytest.mark.parametrize(
    "text",
    [
        "", "Plain text.", "Zeilen\nund\tTabs\r\n", "naïve – café", "東京は雨", "שלום", "नमस्ते",
        "👩‍🚒 family 👨‍👩‍👧", "\x1b[1mbold\x1b[0m", "a\N{SOFT HYPHEN}b", "\N{NO-BREAK SPACE}",
        "\U0001fa77\U0001fae8\U0001fabf\U0001fae9 are newer than Python's tables", "\ue000 private",
    ],
)  # fmt: skip
def test_text_of_any_script_is_text(text: str) -> None:
    assert is_garbage(text) is False
    assert said(*text) == (text, False)


@pytest.mark.parametrize(
    "text", [BAD * 3, "\x00\x01\x02", GARBAGE * 3, "Good. \x00a\x00b\x00", "\ufdd0\uffff\U0005ffff"]
)
def test_many_characters_that_no_text_has_are_garbage(text: str) -> None:
    assert is_garbage(text) is True


def test_few_of_them_leave_it_open_and_then_it_was_text() -> None:
    assert is_garbage(BAD * (ENOUGH - 1)) is None
    quoted = f"The file says {BAD}{BAD} there."
    assert is_garbage(quoted) is None
    assert said(quoted) == (quoted, False)
    assert is_garbage(BAD + "a" * HELD_CHARS) is False


def test_nothing_is_said_from_the_first_bad_character_on() -> None:
    assert said("Good ", f"text{BAD}", BAD, "a", BAD) == ("Good ", True)


def test_what_was_held_back_is_said_when_it_shows_to_be_text() -> None:
    filter_ = GarbageFilter()
    assert filter_.take(Tokens(text=f"a{BAD}")) == []
    assert filter_.take(Tokens(text="b" * 30)) == []
    texts = [one.text for one in filter_.take(Tokens(text="c" * 40))]
    assert texts == [f"a{BAD}", "b" * 30, "c" * 40]
    assert [one.text for one in filter_.take(Tokens(text="d"))] == ["d"]
    assert filter_.rest() == []


def test_the_error_shows_it_without_sending_it_as_it_is() -> None:
    with pytest.raises(EngineGarbage) as raised:
        GarbageFilter().take(Tokens(text=BAD * 3))
    assert raised.value.message.isascii()
    assert "\\ufffd" in raised.value.message


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Co"]))))
def test_no_text_is_lost_or_put_in_another_order(texts: list[str]) -> None:
    texts = [text.replace(BAD, "") for text in texts]
    assert said(*texts) == ("".join(texts), False)


@given(st.lists(st.text(alphabet=f"ab{BAD}"), max_size=60))
def test_whatever_is_said_is_the_beginning_of_what_came(texts: list[str]) -> None:
    told, garbage = said(*texts)
    assert "".join(texts).startswith(told)
    assert garbage or told == "".join(texts)


@given(st.text(alphabet="ab", max_size=500))
def test_garbage_that_goes_on_is_found_within_few_characters(before: str) -> None:
    told, garbage = said(before, *[BAD] * ENOUGH)
    assert (told, garbage) == (before, True)
