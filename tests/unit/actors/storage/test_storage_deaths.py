"""Deaths over one piece of work: which of them count, and when they are too many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.storage.work import (
    DeathBounds,
    Deaths,
    Return,
    Work,
    WorkState,
    accepted_by,
    died_over,
)

BOUNDS = DeathBounds(in_a_row=2, in_all=5)
NOW = 100.0
NEW = Work("q", "query", WorkState.ACCEPTED, {}, "b-1", NOW)


def had_by(holder: str, before: Work | None, emitted: int | None = None) -> Work:
    """The row after this incarnation took it; with ``emitted``, as its client says that the
    incarnation before died."""
    lost = before.holder if before is not None else "b-1"
    returned = None if emitted is None else Return(f"orchestrator.{lost}", emitted)
    return accepted_by(before, replace(NEW, holder=holder), returned, BOUNDS)


def engine_died(work: Work, epoch: str, emitted: int) -> Work:
    return died_over(work, f"cpu_engine.{epoch}", emitted, BOUNDS, NOW)


# --- counting ---------------------------------------------------------------------------------


def test_deaths_without_new_text_between_them_are_in_a_row() -> None:
    deaths = Deaths().after("cpu_engine.b-4", 0).after("gpu_engine.b-5", 0)
    assert deaths.in_a_row == ("cpu_engine.b-4", "gpu_engine.b-5")
    assert deaths.too_many(BOUNDS)


def test_new_text_begins_a_new_row() -> None:
    deaths = Deaths().after("cpu_engine.b-4", 10).after("cpu_engine.b-5", 11)
    assert deaths == Deaths(("cpu_engine.b-5",), 11, 2)
    assert not deaths.too_many(BOUNDS)


def test_a_death_that_is_told_twice_counts_once() -> None:
    once = Deaths().after("cpu_engine.b-4", 10)
    assert once.after("cpu_engine.b-4", 10) == once


def test_less_text_than_before_is_no_progress() -> None:
    # The client of a dead orchestrator had not got all of it.
    deaths = Deaths().after("cpu_engine.b-4", 10).after("orchestrator.b-1", 8)
    assert deaths.too_many(BOUNDS)
    assert deaths.emitted == 10


def test_work_that_gets_on_all_the_time_ends_after_all_its_deaths() -> None:
    deaths = Deaths()
    for number in range(BOUNDS.in_all):
        deaths = deaths.after(f"cpu_engine.b-{number}", number + 1)
        assert not deaths.too_many(BOUNDS)
    assert deaths.after("cpu_engine.b-99", 99).too_many(BOUNDS)


# --- engines ----------------------------------------------------------------------------------


def test_the_second_engine_in_a_row_ends_the_work() -> None:
    once = engine_died(NEW, "b-4", 0)
    assert once.state is WorkState.ACCEPTED
    ended = engine_died(had_by("b-1", once), "b-5", 0)
    assert (ended.state, ended.error_code, ended.ended_at) == (WorkState.FAILED, "poisoned", NOW)


def test_a_bound_of_one_forgives_nothing() -> None:
    ended = died_over(NEW, "cpu_engine.b-4", 0, DeathBounds(1, 5), NOW)
    assert ended.error_code == "poisoned"


def test_work_that_ended_is_not_ended_again() -> None:
    done = replace(NEW, state=WorkState.DONE, ended_at=5.0)
    assert engine_died(done, "b-4", 0) == done
    assert had_by("b-2", done, emitted=0) == done


# --- orchestrators ----------------------------------------------------------------------------


def test_a_holder_that_died_with_it_in_hand_counts_like_an_engine() -> None:
    second = had_by("b-2", NEW, emitted=0)
    assert (second.deaths.in_a_row, second.taken_up) == (("orchestrator.b-1",), 1)
    assert had_by("b-3", second, emitted=0).error_code == "poisoned"
    assert engine_died(second, "b-4", 0).error_code == "poisoned"


def test_the_same_holder_counts_nothing_however_often_it_asks() -> None:
    second = had_by("b-2", NEW, emitted=0)
    assert had_by("b-2", second, emitted=0) == second


def test_a_holder_that_handed_it_back_did_not_die() -> None:
    second = had_by("b-2", NEW)
    assert (second.deaths, second.holder, second.taken_up) == (Deaths(), "b-2", 1)


def test_nobody_dies_of_work_that_waits_for_its_engine() -> None:
    waiting = engine_died(NEW, "b-4", 0)
    assert not waiting.in_hand
    second = had_by("b-2", waiting, emitted=0)
    assert second.deaths.in_a_row == ("cpu_engine.b-4",)
    assert second.in_hand


def test_it_is_in_hand_again_when_its_holder_tries_again() -> None:
    again = had_by("b-1", engine_died(NEW, "b-4", 0))
    assert again.in_hand
    assert had_by("b-2", again, emitted=0).error_code == "poisoned"


def test_work_that_comes_back_before_it_had_a_row_brings_its_death_along() -> None:
    assert had_by("b-2", None, emitted=0).deaths.in_a_row == ("orchestrator.b-1",)
    assert had_by("b-2", None).deaths == Deaths()


def test_a_client_that_lost_only_its_connection_tells_of_no_death() -> None:
    assert had_by("b-1", None, emitted=0).deaths == Deaths()


@pytest.mark.parametrize("before", [NEW, None], ids=["with a row", "without one"])
def test_when_the_supervisor_died_the_query_is_not_to_blame(before: Work | None) -> None:
    assert had_by("other boot-2", before, emitted=0).deaths == Deaths()


def test_when_the_spawner_died_and_all_its_children_with_it_the_query_is_not_to_blame() -> None:
    held = replace(NEW, holder="b-1-1")
    again = had_by("b-2-8", held, emitted=0)
    assert again.deaths == Deaths()
    assert had_by("b-3-15", again, emitted=0).deaths == Deaths()
    # One that dies beside a spawner which lives does count.
    assert had_by("b-2-9", again, emitted=0).deaths.in_a_row == ("orchestrator.b-2-8",)
