"""How long an engine may be silent: by what it is at, and by what was learnt of its speed."""

from __future__ import annotations

import pytest

from actors.orchestrator.watchdog import (
    FORGETS,
    LEARNT_STEPS,
    UNKNOWN_BATCH_STEPS,
    Pace,
    Phase,
    Vigil,
)
from configs.answering import WatchdogSettings
from protocol.messages.engine import Tokens
from tests.support.engines import loading, reading, waiting

SETTINGS = WatchdogSettings(load_s=600, prefill_s=60, decode_s=20, min_s=3, slow_factor=20)
MOST = {Phase.LOADING: 600, Phase.PREFILL: 60, Phase.DECODE: 20}
TEXT = Tokens(text="a")
LOADING, PREFILL, DECODE = Phase.LOADING, Phase.PREFILL, Phase.DECODE


def paced(phase: Phase, *seconds: float) -> Pace:
    pace = Pace(SETTINGS)
    for one in seconds:
        pace.step(phase, one, 0.0)
    return pace


@pytest.mark.parametrize("phase", Phase)
def test_before_anything_is_learnt_there_is_as_much_time_as_is_set(phase: Phase) -> None:
    assert paced(phase).budget_s(phase) == MOST[phase]
    assert paced(phase, *[0.1] * (LEARNT_STEPS - 1)).budget_s(phase) == MOST[phase]


def read(pace: Pace) -> Pace:
    """Of which the batches of prompts are known, and take no time."""
    for _ in range(LEARNT_STEPS):
        pace.step(PREFILL, 0.001, 0.0)
    return pace


@pytest.mark.parametrize("phase", [PREFILL, DECODE])
def test_then_it_is_a_multiple_of_the_longest_step(phase: Phase) -> None:
    pace = paced(phase, 0.1, 0.3, 0.1, 0.1, 0.5)
    assert (pace if phase is PREFILL else read(pace)).budget_s(phase) == pytest.approx(10)


def test_as_long_as_no_batch_was_seen_one_may_come_in_between() -> None:
    pace = paced(DECODE, *[0.1] * LEARNT_STEPS)
    assert pace.budget_s(DECODE) == pytest.approx(0.1 * UNKNOWN_BATCH_STEPS)
    assert read(pace).budget_s(DECODE) == SETTINGS.min_s


def test_after_a_stall_nothing_is_known_any_more() -> None:
    pace = paced(PREFILL, *[0.1] * LEARNT_STEPS)
    assert pace.budget_s(PREFILL) == SETTINGS.min_s
    pace.forget(PREFILL)
    assert pace.budget_s(PREFILL) == SETTINGS.prefill_s


@pytest.mark.parametrize("phase", [PREFILL, DECODE])
def test_never_less_than_the_least_nor_more_than_the_most(phase: Phase) -> None:
    assert paced(phase, *[0.001] * 5).budget_s(phase) == SETTINGS.min_s
    assert paced(phase, *[10.0] * 5).budget_s(phase) == MOST[phase]


def test_loading_has_its_time_whatever_was_seen() -> None:
    assert paced(LOADING, *[0.1] * 100).budget_s(LOADING) == SETTINGS.load_s


def test_a_long_step_is_forgotten_after_many_short_ones() -> None:
    pace = read(paced(DECODE, 1.0, *[0.2] * 69))
    assert pace.budget_s(DECODE) == pytest.approx(20 * FORGETS**69)
    assert 9 < pace.budget_s(DECODE) < 11


def test_each_phase_is_learnt_for_itself() -> None:
    pace = paced(DECODE, *[0.2] * 5)
    assert pace.budget_s(PREFILL) == SETTINGS.prefill_s
    assert read(pace).budget_s(DECODE) == pytest.approx(4)


def test_between_two_pieces_of_text_there_is_time_for_others_prompts() -> None:
    pace = read(paced(DECODE, *[0.2] * 5))
    pace.step(PREFILL, 8.0, 0.0)
    assert pace.budget_s(DECODE) == pytest.approx(16)
    # Also where two batches take longer than two pieces of text may be apart else.
    pace.step(PREFILL, 30.0, 0.0)
    assert pace.budget_s(DECODE) == pytest.approx(60)


# --- over one answer ------------------------------------------------------------------------------


class Watched:
    """One answer that is watched, and the time."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.now = 100.0
        self.vigil = Vigil(pace or Pace(SETTINGS), self.now)

    def hears(self, piece: Tokens, after_s: float = 0.1) -> Phase:
        self.vigil.begin_wait(self.now)
        self.now += after_s
        self.vigil.heard(piece, self.now)
        return self.vigil.phase


def test_its_phase_is_what_its_last_sign_says() -> None:
    watched = Watched()
    assert watched.vigil.phase is PREFILL
    signs = [loading(), waiting(), reading(256, 1000), TEXT, TEXT]
    assert [watched.hears(sign) for sign in signs] == [LOADING, PREFILL, PREFILL, DECODE, DECODE]


def test_the_time_is_that_of_its_phase() -> None:
    watched = Watched()
    assert watched.vigil.begin_wait(0) == SETTINGS.prefill_s
    watched.hears(loading())
    assert watched.vigil.begin_wait(0) == SETTINGS.load_s
    watched.hears(TEXT)
    assert watched.vigil.begin_wait(0) == SETTINGS.decode_s


def test_waiting_for_others_and_loading_are_no_steps() -> None:
    pace = Pace(SETTINGS)
    watched = Watched(pace)
    for _ in range(LEARNT_STEPS):
        watched.hears(waiting(), 0.1)
    assert pace.budget_s(PREFILL) == SETTINGS.prefill_s
    assert pace.heard_at == watched.now


def test_batches_of_a_prompt_are_learnt() -> None:
    pace = Pace(SETTINGS)
    watched = Watched(pace)
    for batch in range(1, LEARNT_STEPS + 1):
        watched.hears(reading(256 * batch, 10_000), 0.5)
    assert pace.budget_s(PREFILL) == pytest.approx(10)


def test_prompts_that_were_short_or_read_before_say_nothing_of_a_long_one() -> None:
    pace = Pace(SETTINGS)
    for _ in range(10 * LEARNT_STEPS):
        Watched(pace).hears(TEXT, 0.01)
    assert pace.budget_s(PREFILL) == SETTINGS.prefill_s


def test_nor_do_thoughts_that_count_one_by_one() -> None:
    pace = Pace(SETTINGS)
    watched = Watched(pace)
    for thought in range(1, 100):
        watched.hears(reading(thought, thought + 1), 0.01)
    assert pace.budget_s(PREFILL) == SETTINGS.prefill_s


def test_how_long_a_reader_takes_is_not_the_engine_s_time() -> None:
    pace = Pace(SETTINGS)
    watched = Watched(pace)
    for _ in range(LEARNT_STEPS + 1):
        watched.now += 1000
        watched.hears(TEXT, 0.2)
    assert read(pace).budget_s(DECODE) == pytest.approx(4)


def test_it_is_alone_where_no_other_answer_of_the_engine_got_a_sign_meanwhile() -> None:
    pace = Pace(SETTINGS)
    stands, goes_on = Watched(pace), Watched(pace)
    stands.hears(TEXT)
    stands.vigil.begin_wait(stands.now)
    assert stands.vigil.is_alone(stands.now + 10)
    goes_on.now = stands.now
    goes_on.hears(TEXT)
    assert not stands.vigil.is_alone(stands.now + 10)
    # That other one has been silent for too long since.
    assert stands.vigil.is_alone(goes_on.now + SETTINGS.decode_s)
