"""Whether a process that ended is started again, and when."""

from __future__ import annotations

import signal
from typing import Literal

import pytest

from configs.sections import RestartSettings
from supervision.restart import Again, Decision, Exit, GiveUp, RestartPolicy, StayStopped

Kind = Literal["permanent", "transient", "temporary"]

CRASH = Exit(code=1)
SETTINGS = RestartSettings(
    backoff_first_s=1, backoff_factor=2, backoff_max_s=5, stable_s=10, max_restarts=4, window_s=100
)


def policy(kind: Kind = "permanent", draw: float = 1.0) -> RestartPolicy:
    return RestartPolicy(SETTINGS, kind, draw=lambda: draw)


def delays(
    of: RestartPolicy, times: list[float], ready_for_s: float | None = None
) -> list[float | None]:
    """The wait after each of these crashes; None where it gives up."""
    decisions = [of.decide(now, CRASH, ready_for_s) for now in times]
    return [d.after_s if isinstance(d, Again) else None for d in decisions]


@pytest.mark.parametrize(
    ("kind", "ended", "expected"),
    [
        ("permanent", Exit(code=0), Again),
        ("permanent", Exit(code=1), Again),
        ("permanent", Exit(signal=9), Again),
        ("permanent", Exit(), Again),
        ("permanent", Exit(code=78), GiveUp),
        ("transient", Exit(code=0), StayStopped),
        ("transient", Exit(code=1), Again),
        ("transient", Exit(signal=9), Again),
        ("transient", Exit(), Again),
        ("transient", Exit(code=78), GiveUp),
        ("temporary", Exit(code=0), StayStopped),
        ("temporary", Exit(code=1), StayStopped),
        ("temporary", Exit(signal=9), StayStopped),
        ("temporary", Exit(), StayStopped),
        ("temporary", Exit(code=78), GiveUp),
    ],
)
def test_the_restart_type_and_the_exit_decide_as_the_table_says(
    kind: Kind, ended: Exit, expected: type[Decision]
) -> None:
    assert isinstance(policy(kind).decide(0, ended, None), expected)


def test_the_first_restart_is_at_once() -> None:
    assert policy().decide(0, CRASH, None) == Again(0.0)


def test_further_restarts_wait_longer_each_time_up_to_the_longest_wait() -> None:
    patient = RestartPolicy(
        SETTINGS.model_copy(update={"max_restarts": 100}), "permanent", draw=lambda: 1.0
    )
    assert delays(patient, [0, 1, 2, 3, 4, 5]) == [0, 1, 2, 4, 5, 5]


def test_the_wait_is_the_drawn_share_of_its_ceiling() -> None:
    assert delays(policy(draw=0.25), [0, 1, 2, 3]) == [0, 0.25, 0.5, 1]


def test_an_incarnation_that_was_ready_long_enough_starts_the_backoff_anew() -> None:
    it = policy()
    assert delays(it, [0, 1]) == [0, 1]
    assert delays(it, [12], ready_for_s=10) == [0]
    assert delays(it, [13]) == [1]


def test_an_incarnation_that_was_ready_too_shortly_does_not() -> None:
    it = policy()
    assert delays(it, [0, 1]) == [0, 1]
    assert delays(it, [12], ready_for_s=9.99) == [2]


def test_one_restart_more_than_allowed_within_the_window_is_giving_up() -> None:
    it = policy()
    assert None not in delays(it, [0, 1, 2, 3])
    given_up = it.decide(4, Exit(signal=signal.SIGSEGV), None)
    assert given_up == GiveUp("it ended 5 times within 100 s, last: killed by SIGSEGV")


def test_stable_incarnations_count_against_the_intensity_all_the_same() -> None:
    assert delays(policy(), [0, 20, 40, 60, 80], ready_for_s=15) == [0, 0, 0, 0, None]


def test_restarts_that_slid_out_of_the_window_no_longer_count() -> None:
    assert None not in delays(policy(), [0, 30, 60, 90, 100.5, 131, 161, 191])


def test_a_restart_at_the_very_edge_of_the_window_still_counts() -> None:
    assert delays(policy(), [0, 30, 60, 90, 100])[-1] is None


def test_giving_up_is_not_a_restart_so_the_window_goes_on_sliding() -> None:
    it = policy()
    assert delays(it, [0, 1, 2, 3, 50, 101])[4:] == [None, 5]


def test_no_restart_at_all_may_be_allowed() -> None:
    never = RestartPolicy(SETTINGS.model_copy(update={"max_restarts": 0}), "permanent")
    assert isinstance(never.decide(0, CRASH, None), GiveUp)


def test_forgiving_makes_the_next_restart_immediate_and_the_count_start_anew() -> None:
    it = policy()
    assert delays(it, [0, 1, 2, 3, 4])[-1] is None
    it.forgive()
    assert delays(it, [5, 6, 7, 8, 9]) == [0, 1, 2, 4, None]


@pytest.mark.parametrize("kind", ["permanent", "transient", "temporary"])
def test_dying_with_the_spawner_is_restarted_at_once_and_counts_for_nothing(kind: Kind) -> None:
    it = policy(kind)
    for moment in range(20):
        assert it.decide(moment, Exit(collateral=True), None) == Again(0.0)
    assert it.decide(20, CRASH, None) == policy(kind).decide(20, CRASH, None)


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (Exit.from_status(0), "exit code 0"),
        (Exit.from_status(70), "exit code 70"),
        (Exit.from_status(-9), "killed by SIGKILL"),
        (Exit.from_status(-40), "killed by signal 40"),
        (Exit(), "ended, nobody knows how"),
        (Exit(signal=9, collateral=True), "died with the spawner"),
    ],
)
def test_an_exit_says_in_words_how_it_was(ended: Exit, text: str) -> None:
    assert str(ended) == text
