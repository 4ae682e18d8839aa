"""What operators order: a drain, a rolling restart; and those that are restarted with another."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from protocol.errors import InvalidRequest, NotFound
from protocol.lifecycle import ActorState
from supervision.child import ChildState
from supervision.order import dependants
from supervision.plan import LAST_WORDS_S, Plan
from supervision.restart import Exit
from tests.support.planning import (
    CLEAN,
    KILLED,
    PlanDriver,
    published,
    running,
    settings_of,
    signals,
    spawns,
    told,
)

SETUP = Exit(code=78)


# --- a drain ------------------------------------------------------------------------------------


def test_who_is_drained_finishes_ends_and_stays_stopped() -> None:
    driver = running("a", "b")
    effects = driver.drain("a")
    assert signals(effects) == [("a", signal.SIGTERM)]
    assert driver.plan.entry("a").state is ActorState.DRAINING
    effects = driver.crash("a", CLEAN)
    assert (spawns(effects), told(effects)) == ([], ["actor.stopped"])
    assert driver.state("a") is ChildState.STOPPED
    assert driver.reason("a") == "drained by hand; `noyau restart a` starts it"
    driver.advance(1000)
    assert spawns(driver.all).count("a") == 1


def test_who_was_drained_is_started_by_a_restart() -> None:
    driver = running("a")
    driver.drain("a")
    driver.crash("a", CLEAN)
    assert spawns(driver.restart("a")) == ["a"]


def test_a_restart_while_it_drains_starts_it_when_it_has_ended() -> None:
    driver = running("a")
    driver.drain("a")
    driver.restart("a")
    assert spawns(driver.crash("a", CLEAN)) == ["a"]


def test_a_drain_during_a_restart_by_hand_wins() -> None:
    driver = running("a")
    driver.restart("a")
    driver.drain("a")
    assert spawns(driver.crash("a", CLEAN)) == []
    assert driver.state("a") is ChildState.STOPPED


def test_who_waits_or_has_failed_is_stopped_at_once() -> None:
    driver = PlanDriver({"a": [], "b": ["a"], "c": []})
    driver.spawner_ready()
    driver.spawned("c")
    driver.crash("c", SETUP)
    driver.advance(LAST_WORDS_S)
    assert (driver.state("b"), driver.state("c")) == (ChildState.WAITING, ChildState.FAILED)
    for name in ("b", "c"):
        assert published(driver.drain(name)) == [name]
        assert driver.state(name) is ChildState.STOPPED
        assert driver.drain(name) == []


def test_who_waits_for_its_next_try_is_stopped_at_once() -> None:
    driver = running("a")
    driver.crash("a")
    driver.spawned("a")
    driver.crash("a")
    assert driver.state("a") is ChildState.BACKOFF
    driver.drain("a")
    assert driver.state("a") is ChildState.STOPPED
    driver.advance(1000)
    assert driver.state("a") is ChildState.STOPPED


def test_a_process_that_is_on_its_way_is_drained_when_it_comes() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    assert driver.drain("a") == []
    assert signals(driver.spawned("a")) == [("a", signal.SIGTERM)]
    assert spawns(driver.crash("a", CLEAN)) == []
    assert driver.state("a") is ChildState.STOPPED


def test_who_is_wanted_after_all_before_its_process_comes_just_starts() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.drain("a")
    driver.restart("a")
    driver.up("a")
    assert driver.state("a") is ChildState.READY
    assert signals(driver.all) == []


def test_who_is_drained_while_its_spawner_dies_stays_stopped() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.drain("a")
    driver.spawner_lost()
    driver.spawner_ready()
    assert driver.state("a") is ChildState.STOPPED
    assert spawns(driver.all) == ["a"]


def test_a_drain_is_told_its_unknown_name_and_refused_while_everything_stops() -> None:
    driver = running("a")
    with pytest.raises(NotFound):
        driver.drain("b")
    driver.stop()
    with pytest.raises(InvalidRequest):
        driver.drain("a")


def test_who_does_not_drain_in_time_is_killed_and_stays_stopped() -> None:
    driver = running("a", supervisor={"drain_timeout_s": 5})
    driver.drain("a")
    assert signals(driver.advance(5)) == [("a", signal.SIGKILL)]
    assert spawns(driver.crash("a", KILLED)) == []


# --- a rolling restart --------------------------------------------------------------------------


def comes_back(driver: PlanDriver, name: str) -> list[str]:
    """It ends as it was told, and is READY again; returns who is signalled then."""
    driver.crash(name, CLEAN)
    driver.spawned(name)
    return [one for one, _ in signals(driver.beat(name))]


def test_several_are_restarted_one_after_the_other_and_none_before_the_last_is_back() -> None:
    driver = running("a", "b", "c")
    assert signals(driver.restart("b", "a")) == [("b", signal.SIGTERM)]
    driver.crash("b", CLEAN)
    driver.spawned("b")
    assert driver.state("a") is ChildState.READY
    assert signals(driver.beat("b")) == [("a", signal.SIGTERM)]
    driver.crash("a", CLEAN)
    driver.spawned("a")
    assert told(driver.beat("a"))[-1] == "rolling.done"
    assert driver.epoch("c") == "boot-1-3"


def test_no_names_means_all_but_those_that_were_drained() -> None:
    driver = running("a", "b", "c")
    driver.drain("b")
    driver.crash("b", CLEAN)
    assert signals(driver.restart()) == [("a", signal.SIGTERM)]
    assert comes_back(driver, "a") == ["c"]
    assert comes_back(driver, "c") == []
    assert driver.state("b") is ChildState.STOPPED


def test_one_that_is_unavailable_on_this_machine_is_back_too() -> None:
    driver = running("a", "b")
    driver.restart("a", "b")
    driver.crash("a", CLEAN)
    driver.spawned("a")
    effects = driver.beat("a", ActorState.UNAVAILABLE, "no GPU")
    assert signals(effects) == [("b", signal.SIGTERM)]


def test_when_one_does_not_come_back_the_others_are_left_as_they_are() -> None:
    driver = running("a", "b", "c")
    driver.restart("a", "b", "c")
    driver.crash("a", CLEAN)
    driver.spawned("a")
    driver.beat("a", ActorState.STARTING, "its settings are wrong")
    effects = driver.crash("a", SETUP)
    assert told(effects) == ["actor.failed", "rolling.failed"]
    driver.advance(1000)
    assert (driver.state("b"), driver.state("c")) == (ChildState.READY, ChildState.READY)
    # And the next order finds a clean table.
    assert signals(driver.restart("b", "c")) == [("b", signal.SIGTERM)]


def test_a_crash_of_one_in_its_turn_is_waited_for() -> None:
    driver = running("a", "b")
    driver.restart("a", "b")
    driver.crash("a", CLEAN)
    driver.spawned("a")
    driver.crash("a")
    driver.advance(1)
    driver.spawned("a")
    assert signals(driver.beat("a")) == [("b", signal.SIGTERM)]


def test_a_second_rolling_restart_adds_only_who_does_not_wait_already() -> None:
    driver = running("a", "b", "c")
    driver.restart("a", "b")
    assert driver.restart("b", "c") == []
    assert comes_back(driver, "a") == ["b"]
    assert comes_back(driver, "b") == ["c"]
    assert comes_back(driver, "c") == []


def test_a_single_one_does_not_wait_for_the_turn_of_others() -> None:
    driver = running("a", "b", "c")
    driver.restart("a", "b")
    assert signals(driver.restart("c")) == [("c", signal.SIGTERM)]


def test_a_rolling_restart_with_a_wrong_name_restarts_nobody() -> None:
    driver = running("a", "b")
    with pytest.raises(NotFound):
        driver.restart("a", "x")
    assert signals(driver.all) == []


def test_a_rolling_restart_takes_up_what_has_failed() -> None:
    driver = running("a", "b")
    driver.crash("a", SETUP)
    driver.advance(LAST_WORDS_S)
    assert spawns(driver.restart("a", "b")) == ["a"]
    driver.spawned("a")
    assert signals(driver.beat("a")) == [("b", signal.SIGTERM)]


def test_one_that_is_drained_in_its_turn_ends_the_rolling_restart() -> None:
    driver = running("a", "b")
    driver.restart("a", "b")
    driver.crash("a", CLEAN)
    driver.spawned("a")
    driver.crash("a")
    driver.advance(1)
    driver.spawned("a")
    driver.crash("a")
    assert driver.state("a") is ChildState.BACKOFF
    assert told(driver.drain("a")) == ["actor.stopped", "rolling.failed"]
    assert signals(driver.restart("a", "b")) == []
    assert spawns(driver.all)[-1] == "a"


def test_nobodys_turn_comes_while_everything_is_stopped() -> None:
    driver = PlanDriver({"a": [], "c": [], "b": ["a", "c"]})
    driver.spawner_ready()
    driver.up("a", "c", "b")
    driver.restart("a", "c")
    driver.crash("a", CLEAN)
    driver.spawned("a")
    assert signals(driver.stop()) == [("b", signal.SIGTERM)]
    assert signals(driver.beat("a")) == []


# --- rest for one -------------------------------------------------------------------------------


def with_strategy(needs: Mapping[str, Sequence[str]], name: str, **sections: Any) -> PlanDriver:
    """Actors of which one takes those that need it along."""
    driver = PlanDriver(needs, **sections)
    plain = settings_of(needs, **sections).model_dump()
    plain["actors"][name]["strategy"] = "rest_for_one"
    driver.settings = type(driver.settings).model_validate(plain)
    driver.plan = Plan(driver.settings, "boot")
    driver.spawner_ready()
    for one in driver.plan.children:
        driver.up(one)
    return driver


CHAIN = {"a": [], "b": ["a"], "c": ["b"], "d": []}


def test_those_that_need_it_are_drained_and_started_after_it() -> None:
    driver = with_strategy(CHAIN, "a")
    effects = driver.crash("a")
    assert spawns(effects) == ["a"]
    assert signals(effects) == [("b", signal.SIGTERM), ("c", signal.SIGTERM)]
    assert spawns(driver.crash("b", CLEAN) + driver.crash("c", CLEAN)) == []
    driver.spawned("a")
    assert spawns(driver.beat("a")) == ["b"]
    driver.spawned("b")
    assert spawns(driver.beat("b")) == ["c"]
    assert driver.state("d") is ChildState.READY


def test_nobody_else_is_touched_by_the_death_of_one_that_takes_none_along() -> None:
    driver = with_strategy(CHAIN, "a")
    assert signals(driver.crash("c")) == []
    assert signals(driver.crash("b")) == []


def test_who_dies_with_the_spawner_takes_nobody_along() -> None:
    driver = with_strategy(CHAIN, "a")
    driver.spawner_lost()
    assert signals(driver.died("a")) == []


def test_one_that_is_given_up_leaves_those_that_need_it_running() -> None:
    driver = with_strategy(CHAIN, "a")
    assert signals(driver.crash("a", SETUP)) == []
    assert driver.state("b") is ChildState.READY


def test_dependants_are_found_through_others_nearest_first() -> None:
    assert dependants("a", CHAIN) == ["b", "c"]
    assert dependants("d", CHAIN) == []
