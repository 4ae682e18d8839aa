"""Healthy, degraded or unhealthy, and why."""

from __future__ import annotations

import pytest

from configs.schema import Settings
from protocol.lifecycle import Health
from protocol.messages.actor import Counters
from protocol.messages.supervisor import Activity
from supervision.child import Child, ChildState
from supervision.failures import Failures
from supervision.health import HealthBoard, Verdict, judge, judge_all, judge_system
from supervision.restart import RestartPolicy
from tests.support.planning import settings_of

SETTINGS = settings_of({"a": []})

GOOD = Verdict(Health.HEALTHY)
SO_SO = Verdict(Health.DEGRADED, "draining")
BAD = Verdict(Health.UNHEALTHY, "failed")


def child(
    state: ChildState,
    reason: str = "",
    last_exit: str = "",
    what: str = "idle",
    heard_at: float | None = None,
) -> Child:
    policy = RestartPolicy(settings_of({"a": []}).restart, "permanent")
    it = Child("a", [], policy, state, reason=reason, last_exit=last_exit, heard_at=heard_at)
    it.activity = Activity(what=what)
    return it


@pytest.mark.parametrize(
    ("it", "health", "reason"),
    [
        (child(ChildState.FAILED), Health.UNHEALTHY, "failed"),
        (child(ChildState.FAILED, "no disk"), Health.UNHEALTHY, "failed: no disk"),
        (child(ChildState.STOPPED), Health.UNHEALTHY, "stopped"),
        (child(ChildState.STOPPED, "exit code 0"), Health.UNHEALTHY, "stopped: exit code 0"),
        (child(ChildState.BACKOFF), Health.UNHEALTHY, "restarting after its end"),
        (child(ChildState.DEAD), Health.UNHEALTHY, "restarting after its end"),
        (
            child(ChildState.BACKOFF, last_exit="killed by SIGSEGV"),
            Health.UNHEALTHY,
            "restarting after killed by SIGSEGV",
        ),
        (child(ChildState.STOPPING), Health.DEGRADED, "draining"),
        (child(ChildState.WAITING), Health.DEGRADED, "not started yet"),
        (child(ChildState.SPAWNING), Health.DEGRADED, "not started yet"),
        (
            child(ChildState.WAITING, "waits for storage"),
            Health.DEGRADED,
            "not started yet: waits for storage",
        ),
        (
            child(ChildState.STARTING, what="loading the model"),
            Health.DEGRADED,
            "starting: loading the model",
        ),
        (child(ChildState.STARTING, "no network"), Health.UNHEALTHY, "no network"),
        (child(ChildState.READY), Health.HEALTHY, ""),
        (child(ChildState.READY, heard_at=100.0), Health.HEALTHY, ""),
    ],
)
def test_each_state_has_its_verdict_and_its_reason(it: Child, health: Health, reason: str) -> None:
    assert judge(it, 100.0, SETTINGS) == Verdict(health, reason)


def test_what_the_machine_cannot_do_is_told_but_counts_for_nothing() -> None:
    verdict = judge(child(ChildState.UNAVAILABLE, "no GPU"), 100.0, SETTINGS)
    assert verdict == Verdict(Health.HEALTHY, "no GPU", counts=False)
    assert judge_system([("gpu", verdict), ("cpu", GOOD)]) == GOOD
    assert judge_system([("gpu", verdict), ("cpu", BAD)]).health is Health.UNHEALTHY


def test_an_unavailable_actor_that_fell_silent_is_as_sick_as_any_other() -> None:
    it = child(ChildState.UNAVAILABLE, "no GPU", heard_at=100.0)
    assert judge(it, 110.0, SETTINGS).health is Health.UNHEALTHY


def test_every_state_is_judged() -> None:
    for state in ChildState:
        verdict = judge(child(state), 100.0, SETTINGS)
        assert (verdict.reason == "") == (verdict.health is Health.HEALTHY)


def test_a_heartbeat_that_is_just_on_time_is_not_missing() -> None:
    assert judge(child(ChildState.READY, heard_at=100.0), 102.0, SETTINGS) == GOOD


def test_a_ready_actor_without_heartbeats_is_unhealthy_and_says_for_how_long() -> None:
    verdict = judge(child(ChildState.READY, heard_at=100.0), 103.46, SETTINGS)
    assert verdict == Verdict(Health.UNHEALTHY, "no heartbeat for 3.5 s")


def test_an_actor_that_loads_for_minutes_is_not_accused_of_missing_heartbeats() -> None:
    it = child(ChildState.STARTING, what="downloading", heard_at=100.0)
    assert judge(it, 900.0, SETTINGS).health is Health.DEGRADED


def test_the_system_is_healthy_when_all_are() -> None:
    assert judge_system([("a", GOOD), ("b", GOOD)]) == GOOD


def test_the_system_is_degraded_when_some_are_not_and_names_them_alone() -> None:
    verdict = judge_system([("a", GOOD), ("b", BAD), ("c", SO_SO)])
    assert verdict == Verdict(Health.DEGRADED, "b failed; c draining")


def test_the_system_is_unhealthy_when_all_are() -> None:
    assert judge_system([("a", BAD), ("b", BAD)]).health is Health.UNHEALTHY


def test_the_system_is_degraded_while_one_of_the_sick_does_something() -> None:
    assert judge_system([("a", BAD), ("b", SO_SO)]).health is Health.DEGRADED


def test_nobody_at_all_is_healthy() -> None:
    assert judge_system([]) == GOOD


def test_what_the_profile_promises_and_the_machine_lacks_is_degraded_and_counts() -> None:
    entry = {"class": "actors.engine:Engine", "settings": {"device": "gpu"}}
    settings = Settings.model_validate(
        {
            "actors": {"a": entry},
            "query": {"engines": ["a"]},
            "device": {"profile": "full"},
        }
    )
    verdict = judge(child(ChildState.UNAVAILABLE, "no GPU"), 100.0, settings)
    assert (verdict.health, verdict.counts) == (Health.DEGRADED, True)
    assert verdict.reason == (
        "no GPU; the device profile full promises it: set device.profile to auto"
    )
    assert judge_system([("a", verdict), ("storage", GOOD)]).health is Health.DEGRADED


def test_what_an_actor_counts_of_its_failures_counts() -> None:
    it = child(ChildState.READY, heard_at=100.0)
    it.failures = Failures(SETTINGS.health)
    it.failures.take(Counters(failed=3, failed_in_a_row=3), 100.0)
    verdict = judge(it, 100.5, SETTINGS)
    assert verdict == Verdict(Health.UNHEALTHY, "its last 3 requests all failed")


def test_an_event_loop_that_is_late_makes_an_actor_degraded() -> None:
    it = child(ChildState.READY, heard_at=100.0)
    it.counters = Counters(loop_lag_ms=1000.0)
    assert judge(it, 100.5, SETTINGS) == GOOD
    it.counters = Counters(loop_lag_ms=1500.0)
    assert judge(it, 100.5, SETTINGS) == Verdict(Health.DEGRADED, "its event loop was 1.5 s late")


def test_a_change_of_health_is_found_once_with_what_it_was() -> None:
    board = HealthBoard()
    assert board.changes({"a": GOOD, "b": GOOD}) == []
    assert board.changes({"a": BAD, "b": GOOD}) == [("a", Health.HEALTHY)]
    assert board.changes({"a": BAD, "b": GOOD}) == []
    assert board.of("a") is Health.UNHEALTHY
    assert board.changes({"a": SO_SO, "b": BAD}) == [
        ("a", Health.UNHEALTHY), ("b", Health.HEALTHY),
    ]  # fmt: skip
    assert board.of("nobody") is Health.HEALTHY


def test_many_that_wait_in_it_make_an_actor_degraded() -> None:
    it = child(ChildState.READY, heard_at=100.0)
    it.counters = Counters(waiting=49)
    assert judge(it, 100.5, SETTINGS) == GOOD
    it.counters = Counters(waiting=50)
    assert judge(it, 100.5, SETTINGS) == Verdict(Health.DEGRADED, "50 requests wait in it")


def test_who_needs_one_that_has_failed_is_degraded() -> None:
    failed = child(ChildState.FAILED)
    needs = child(ChildState.READY, heard_at=100.0)
    other = child(ChildState.READY, heard_at=100.0)
    needs.needs = ["failed"]
    found = judge_all({"failed": failed, "needs": needs, "other": other}, 100.5, SETTINGS)
    assert found["needs"] == Verdict(Health.DEGRADED, "it needs failed, which is failed")
    assert (found["failed"].health, found["other"]) == (Health.UNHEALTHY, GOOD)


def test_few_are_judged_at_every_look_and_many_less_often() -> None:
    board = HealthBoard()
    assert [board.is_due(0.1 * look, actors=6) for look in range(3)] == [True, True, True]
    board = HealthBoard()
    due = [board.is_due(0.1 * look, actors=200) for look in range(11)]
    assert [look for look, now in enumerate(due) if now] == [0, 5, 10]
