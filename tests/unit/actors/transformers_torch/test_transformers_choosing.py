"""Which of the likely tokens comes."""

from __future__ import annotations

import numpy as np
import pytest

from actors.engine.backends.transformers_torch.choosing import (
    RECENT,
    Draws,
    Recent,
    choose,
    wanted,
)
from protocol.messages.engine import Sampling

PLAIN = {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0}
HALF = np.log(np.array([0.5, 0.25, 0.125, 0.125]))


def chosen(draw: float, **settings: float) -> int:
    return choose(HALF, Sampling.model_validate(PLAIN | settings), draw)


def test_each_token_comes_as_often_as_it_is_likely() -> None:
    draws = np.linspace(0, 1, 1000, endpoint=False)
    counts = np.bincount([chosen(draw) for draw in draws])
    assert counts == pytest.approx([500, 250, 125, 125], abs=1)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, 4),
        ({"temperature": 0}, 1),
        ({"top_k": 2}, 2),
        ({"top_p": 0.5}, 1),
        ({"top_p": 0.51}, 2),
        ({"top_p": 0.75, "top_k": 2}, 2),
        ({"min_p": 0.5}, 2),
        ({"min_p": 1}, 1),
    ],
)
def test_settings_leave_so_many_tokens(settings: dict[str, float], left: int) -> None:
    draws = np.linspace(0, 1, 200, endpoint=False)
    assert {chosen(draw, **settings) for draw in draws} == set(range(left))


def test_a_high_temperature_evens_out_and_a_low_one_sharpens() -> None:
    assert chosen(0.49, temperature=5) > 0
    assert chosen(0.9, temperature=0.1) == 0


def test_a_draw_that_is_all_but_one_takes_the_last_token_that_is_left() -> None:
    assert chosen(1 - 1e-16, top_k=3) == 2


def test_so_many_of_the_likeliest_tokens_have_to_be_seen() -> None:
    assert wanted(Sampling(temperature=0)) == 1
    assert wanted(Sampling(top_k=40)) == 40
    assert wanted(Sampling(top_k=0)) is None


def drawn(draws: Draws, count: int) -> list[float]:
    made = []
    for _ in range(count):
        made.append(draws.current)
        draws.advance()
    return made


def test_an_answer_that_is_continued_draws_what_the_uninterrupted_one_would_have_drawn() -> None:
    whole = drawn(Draws(7, 0), 10)
    assert drawn(Draws(7, 4), 6) == whole[4:]
    assert drawn(Draws(None, 4), 6) != whole[4:]


def test_penalties_are_taken_off_by_how_often_a_token_came() -> None:
    recent = Recent([1, 2, 2])
    penalty = recent.penalty(
        Sampling(repeat_penalty=2, presence_penalty=0.5, frequency_penalty=0.25)
    )
    assert penalty is not None
    assert penalty.of(1, 4.0) == 2 - 0.5 - 0.25
    assert penalty.of(2, -4.0) == -8 - 0.5 - 0.5
    assert Recent([1]).penalty(Sampling()) is None


def test_penalties_look_back_on_so_many_tokens() -> None:
    recent = Recent([1])
    recent.add([2] * RECENT)
    penalty = recent.penalty(Sampling(presence_penalty=1))
    assert penalty is not None
    assert penalty.counts == {2: RECENT}
