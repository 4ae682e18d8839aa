"""Whether an answer is lost in a loop: what is one, what is none, and when that is noticed."""

from __future__ import annotations

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.backends.simulated import WORDS
from actors.orchestrator.repetition import EVERY_CHARS, LEAST_REPEATS, LONGEST_PERIOD, Repetition

BOUND = 2048
LONGEST = BOUND // LEAST_REPEATS


def noticed(text: str, bound: int = BOUND, piece: int = 4) -> int | None:
    """After how many characters, said in pieces, it is noticed."""
    repetition = Repetition(bound)
    for at in range(0, len(text), piece):
        if repetition.take(text[at : at + piece]):
            return at + piece
    return None


def repeated(period: str, length: int) -> str:
    return (period * (length // len(period) + 1))[:length]


@pytest.mark.parametrize(
    "period", ["a", " ", "word ", "I am sorry. ", "a" * 127 + "b", "-" * 236 + "the end of a line."]
)
@pytest.mark.parametrize("before", range(0, EVERY_CHARS, 7))
def test_a_loop_is_noticed_wherever_it_begins_and_whatever_is_in_it(
    period: str, before: int
) -> None:
    text = "x" * before + repeated(period, 3 * BOUND)
    at = noticed(text)
    assert at is not None
    assert BOUND <= at <= before + BOUND + EVERY_CHARS + 4


periods = st.text(alphabet="ab \n", min_size=1, max_size=LONGEST)


@given(period=periods, piece=st.integers(1, 40), before=st.text(max_size=200))
def test_any_loop_up_to_the_longest_is_noticed_soon_after_the_bound(
    period: str, piece: int, before: str
) -> None:
    at = noticed(before + repeated(period, 2 * BOUND), piece=piece)
    assert at is not None
    assert at <= len(before) + BOUND + EVERY_CHARS + 2 * piece


@given(seed=st.integers(0, 10_000))
def test_ordinary_text_never_is_one(seed: int) -> None:
    draw = random.Random(seed)
    text = " ".join(draw.choice(WORDS) for _ in range(3000))
    assert noticed(text, piece=40) is None


def test_lines_that_differ_in_a_number_are_no_loop() -> None:
    assert noticed("".join(f"| row {n} | value |\n" for n in range(1000))) is None


def test_a_loop_that_was_left_again_is_none() -> None:
    text = repeated("again and again ", BOUND - 100) + "".join(
        random.Random(1).choices(string.ascii_letters, k=4 * BOUND)
    )
    assert noticed(text) is None


def test_a_period_that_is_too_long_to_come_often_is_no_loop() -> None:
    draw = random.Random(1)
    period = "".join(draw.choices(string.ascii_letters, k=LONGEST + 1))
    assert noticed(repeated(period, 4 * BOUND)) is None
    long_ = "".join(draw.choices(string.ascii_letters, k=LONGEST_PERIOD + 1))
    assert noticed(repeated(long_, 20 * LONGEST_PERIOD), bound=16 * LONGEST_PERIOD) is None


@pytest.mark.parametrize("bound", [0, LEAST_REPEATS - 1])
def test_without_a_bound_nothing_is_one(bound: int) -> None:
    assert noticed("a" * 10_000, bound=bound) is None


def test_what_was_said_by_another_engine_counts() -> None:
    repetition = Repetition(BOUND)
    assert not repetition.take("la" * (BOUND // 2 - 10))
    assert repetition.take("la" * 40)


def test_watching_costs_little_even_of_text_that_nearly_is_one() -> None:
    text = ("a" * 255 + "b") * 4 + ("a" * 254 + "b") * 400
    began = time.process_time()
    noticed(text, piece=1)
    noticed(text[::-1], bound=100_000, piece=8)
    # About 0.2 s for some 200 000 characters; a search that starts over at each would take minutes.
    assert time.process_time() - began < 10
