"""The rungs of the kill ladder, and how long each was given."""

from __future__ import annotations

import signal

import pytest

from supervision.ladder import Ladder, Rung


@pytest.mark.parametrize(
    ("rung", "number"),
    [
        (Rung.CANCEL, signal.SIGUSR1),
        (Rung.TERM, signal.SIGTERM),
        (Rung.KILL, signal.SIGKILL),
    ],
)
def test_each_rung_has_its_signal(rung: Rung, number: signal.Signals) -> None:
    assert rung.signal is number


def test_each_rung_lasts_until_the_next_and_the_last_until_now() -> None:
    ladder = Ladder()
    assert ladder.times(10.0) == {}
    ladder.climb(Rung.CANCEL, 10.0)
    ladder.climb(Rung.TERM, 11.0)
    ladder.climb(Rung.KILL, 11.5)
    assert ladder.times(11.502) == {"cancel_ms": 1000.0, "term_ms": 500.0, "kill_ms": 2.0}


def test_it_knows_how_long_ago_a_rung_was_taken() -> None:
    ladder = Ladder()
    assert ladder.since(Rung.TERM, 5.0) is None
    ladder.climb(Rung.TERM, 5.0)
    assert ladder.since(Rung.TERM, 7.5) == 2.5
    assert (ladder.on(Rung.TERM), ladder.on(Rung.KILL)) == (True, False)


def test_who_gets_on_again_begins_anew() -> None:
    ladder = Ladder()
    ladder.climb(Rung.CANCEL, 1.0)
    ladder.begin_anew()
    assert not ladder.on(Rung.CANCEL)
