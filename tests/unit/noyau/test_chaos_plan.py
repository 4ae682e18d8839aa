"""The plan of a random run: seeded, and within what noyau promises to survive."""

from __future__ import annotations

import itertools

import pytest

from noyau.chaos.kinds import KINDS, OWN
from noyau.chaos.plan import ENDING, MOST_ENDS, WINDOW_S, Step, make_plan

ACTORS = ("storage", "cpu_engine", "memory", "tool_user", "orchestrator")
SEEDS = range(1, 6)


def plan(seed: int = 1, seconds: float = 600, every_s: float = 1) -> list[Step]:
    return make_plan(seed, seconds, every_s, ACTORS, engines=("cpu_engine",))


def test_the_same_seed_is_the_same_plan_and_another_seed_another() -> None:
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_faults_come_in_order_within_the_time_and_about_at_the_interval() -> None:
    found = make_plan(3, 100, 2, ACTORS, kinds=("delay",))
    moments = [step.at_s for step in found]
    assert moments == sorted(moments)
    assert moments[-1] < 100
    assert 40 <= len(moments) <= 60


def test_a_long_plan_has_every_kind_and_hits_everybody() -> None:
    found = plan()
    assert {step.kind for step in found} == {*KINDS}
    assert {step.target for step in found} == {*ACTORS, *OWN}


@pytest.mark.parametrize("seed", SEEDS)
def test_own_processes_are_hit_only_with_what_is_meant_for_them(seed: int) -> None:
    for step in plan(seed):
        assert step.target not in OWN or step.target in KINDS[step.kind].drawn


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_hit_again_before_his_rest_is_over(seed: int) -> None:
    free_at: dict[str, float] = {}
    for step in plan(seed):
        assert step.at_s >= free_at.get(step.target, 0.0) - 0.001
        free_at[step.target] = step.at_s + KINDS[step.kind].rest_s


@pytest.mark.parametrize("seed", SEEDS)
def test_supervisor_and_guard_are_never_hit_at_once(seed: int) -> None:
    moments = [step.at_s for step in plan(seed) if step.target in ("supervisor", "guard")]
    assert all(later - sooner >= 4 for sooner, later in itertools.pairwise(moments))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "most"), [*MOST_ENDS.items(), ("memory", 10)])
def test_nobody_is_ended_so_often_that_he_is_given_up(seed: int, name: str, most: int) -> None:
    ends = [s.at_s for s in plan(seed, every_s=0.2) if s.target == name and s.kind in ENDING]
    for end in ends:
        assert sum(end <= other < end + WINDOW_S for other in ends) <= most


def test_only_what_is_named_is_hit_with_only_what_is_named() -> None:
    found = make_plan(1, 60, 1, ACTORS, ("kill", "spin"), ("memory", "guard"))
    assert {(step.kind, step.target) for step in found} == {
        ("kill", "memory"), ("spin", "memory"), ("kill", "guard"),
    }  # fmt: skip


def test_the_keepers_are_stopped_and_killed_too() -> None:
    drawn = {(step.kind, step.target) for step in plan(seconds=3600)}
    assert {(kind, name) for kind in ("kill", "stop") for name in OWN} <= drawn


def test_what_fails_is_a_whole_number_of_requests() -> None:
    counts = [step.seconds for step in plan() if step.kind in ("fail", "garble", "die")]
    assert counts
    assert all(count >= 1 and count == int(count) for count in counts)


def test_without_anybody_to_hit_the_plan_is_empty() -> None:
    assert make_plan(1, 60, 1, [], ("spin",)) == []


def test_faults_of_engines_hit_engines_alone() -> None:
    found = [step for step in plan() if KINDS[step.kind].how is not None]
    assert {step.target for step in found} == {"cpu_engine"}
    assert make_plan(1, 60, 1, ACTORS, ("garble",)) == []
    assert make_plan(1, 60, 1, ACTORS, ("garble",), ("memory",), ("cpu_engine",)) == []
