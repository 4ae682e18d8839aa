"""Who hangs, who is slow, who is starved, who is debugged: judged look by look."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from configs.sections import HangSettings
from protocol.signs import Doing, Signs
from supervision.hangs import Hung, Watchman
from supervision.looks import Look

SETTINGS = HangSettings(
    look_interval_s=0.1, idle_s=5, loading_s=100, working_s=60, stuck_s=10, term_s=0.5
)


@dataclass
class Process:
    """One process as a test moves it."""

    state: str = "S"
    share: float = 0.0
    """Of a core that it uses."""
    beats: bool = True
    per_s: int = 0
    """Units of progress."""
    faults_per_s: int = 0
    doing: Doing = Doing.IDLE
    page: bool = True
    cpu_s: float = 100.0
    progress: float = 1000.0
    faults: float = 500.0
    beat_at: float = 0.0

    def live(self, now: float, seconds: float) -> None:
        """Go on as it does."""
        self.cpu_s += self.share * seconds
        self.progress += self.per_s * seconds
        self.faults += self.faults_per_s * seconds
        if self.beats:
            self.beat_at = now

    def seen(self) -> tuple[Look, Signs | None]:
        """What a look at it shows."""
        signs = Signs(self.beat_at, int(self.progress), self.doing) if self.page else None
        return Look(self.state, self.cpu_s, int(self.faults)), signs


@dataclass
class World:
    """Processes, and who watches them."""

    processes: dict[str, Process]
    now: float = 1000.0
    found: list[tuple[float, str, Hung]] = field(default_factory=list)
    watchman: Watchman = field(default_factory=lambda: Watchman(SETTINGS))

    def look(self) -> None:
        seen = [(name, *process.seen()) for name, process in self.processes.items()]
        self.found += [(self.now, name, hung) for name, hung in self.watchman.look(self.now, seen)]

    def go_on(self, seconds: float, step: float = 0.1) -> list[str]:
        """Time passes; returns who was found to hang meanwhile."""
        before = len(self.found)
        for _ in range(round(seconds / step)):
            self.now += step
            for process in self.processes.values():
                process.live(self.now, step)
            self.look()
        return sorted({name for _, name, _ in self.found[before:]})

    def first(self, name: str) -> tuple[float, Hung]:
        """When it was first found, after the beginning, and why."""
        return next((at - 1000.0, hung) for at, found, hung in self.found if found == name)


def world(**processes: Process) -> World:
    """With one more that is always well, so that no silence is everybody's."""
    return World({**processes, "well": Process()})


# --- stopped ----------------------------------------------------------------------------------


def test_a_stopped_process_is_found_at_the_second_look() -> None:
    it = world(a=Process())
    it.go_on(1)
    it.processes["a"].state, it.processes["a"].beats = "T", False
    assert it.go_on(0.1) == []
    assert it.go_on(0.1) == ["a"]
    assert it.first("a")[1].stopped


def test_one_that_was_stopped_for_a_moment_is_let_go_on() -> None:
    it = world(a=Process())
    for _ in range(10):
        it.processes["a"].state = "T"
        assert it.go_on(0.1) == []
        it.processes["a"].state = "S"
        assert it.go_on(0.1) == []


def test_one_without_a_page_is_seen_to_be_stopped_all_the_same() -> None:
    it = world(a=Process(page=False, beats=False))
    assert it.go_on(100) == []
    it.processes["a"].state = "T"
    assert it.go_on(0.2) == ["a"]


def test_a_debugger_is_left_alone_for_as_long_as_it_takes_and_its_silence_forgotten() -> None:
    it = world(a=Process())
    it.processes["a"].state, it.processes["a"].beats = "t", False
    assert it.go_on(1000, step=0.4) == []
    it.processes["a"].state = "S"
    assert it.go_on(4.8) == []
    assert it.go_on(1) == ["a"]


# --- silent -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "state", "says"), [(1.0, "R", "it computes"), (0.0, "S", "it waits for something")]
)
def test_an_idle_one_whose_loop_stands_still_is_believed_to_hang_after_its_time(
    share: float, state: str, says: str
) -> None:
    it = world(a=Process(beats=False, share=share, state=state))
    assert it.go_on(20) == ["a"]
    at, hung = it.first("a")
    assert SETTINGS.idle_s < at <= SETTINGS.idle_s + 0.3
    assert says in hung.reason
    assert not hung.stopped


def test_one_whose_loop_turns_is_well_whatever_it_computes() -> None:
    it = world(a=Process(share=1.0, state="R"))
    assert it.go_on(300, step=0.4) == []


def test_one_that_wants_to_run_and_is_not_let_is_starved_and_not_hung() -> None:
    it = world(a=Process(beats=False, state="R", share=0.1))
    assert it.go_on(60) == []


def test_one_that_waits_for_a_disk_is_not_hung() -> None:
    it = world(a=Process(beats=False, state="D"))
    assert it.go_on(60) == []


def test_a_loading_one_has_more_time_and_all_it_needs_while_it_touches_memory() -> None:
    it = world(a=Process(beats=False, doing=Doing.LOADING, faults_per_s=50))
    assert it.go_on(500, step=0.4) == []
    it.processes["a"].faults_per_s = 0
    assert it.go_on(SETTINGS.loading_s - 1, step=0.4) == []
    assert it.go_on(2) == ["a"]


def test_page_faults_of_one_that_does_not_load_are_no_sign() -> None:
    it = world(a=Process(beats=False, faults_per_s=50))
    assert it.go_on(6) == ["a"]


def test_a_loop_held_up_by_work_that_gets_on_is_slow_and_not_hung() -> None:
    # A prefill of two minutes on a slow CPU, a batch every ten seconds.
    it = world(a=Process(beats=False, doing=Doing.WORKING, share=1.0, state="R"))
    for _ in range(12):
        assert it.go_on(9.8) == []
        it.processes["a"].progress += 1


# --- stuck ------------------------------------------------------------------------------------


def test_work_that_neither_gets_on_nor_computes_is_stuck_though_the_loop_turns() -> None:
    it = world(a=Process(doing=Doing.WORKING))
    assert it.go_on(30) == ["a"]
    at, hung = it.first("a")
    assert SETTINGS.stuck_s < at <= SETTINGS.stuck_s + 0.3
    assert "does not compute either" in hung.reason


def test_work_that_computes_has_longer() -> None:
    it = world(a=Process(doing=Doing.WORKING, share=2.0, state="R"))
    assert it.go_on(SETTINGS.working_s - 1) == []
    assert it.go_on(2) == ["a"]
    assert "though it computes" in it.first("a")[1].reason


def test_work_that_gets_on_is_well() -> None:
    it = world(a=Process(doing=Doing.WORKING, share=2.0, per_s=100, state="R"))
    assert it.go_on(300, step=0.4) == []


def test_the_age_of_work_begins_with_the_work() -> None:
    it = world(a=Process())
    it.go_on(100)
    it.processes["a"].doing = Doing.WORKING
    assert it.go_on(SETTINGS.stuck_s - 0.5) == []
    assert it.go_on(1) == ["a"]


# --- when it was the machine ------------------------------------------------------------------


def test_when_the_judge_itself_was_late_every_age_starts_anew() -> None:
    it = world(a=Process(beats=False))
    assert it.go_on(4.9) == []
    it.now += 100
    it.look()
    assert it.found == []
    assert it.go_on(4.9) == []
    assert it.go_on(0.5) == ["a"]


def test_when_all_fell_silent_together_they_are_pardoned_once() -> None:
    it = World({name: Process(beats=False) for name in "abc"})
    assert it.go_on(9) == []
    assert it.go_on(3) == ["a", "b", "c"]


def test_those_that_fall_silent_together_and_come_back_are_well() -> None:
    it = World({name: Process() for name in "abc"})
    for _ in range(5):
        for process in it.processes.values():
            process.beats = False
        assert it.go_on(7) == []
        for process in it.processes.values():
            process.beats = True
        assert it.go_on(1) == []


def test_the_only_process_there_is_gets_no_pardon() -> None:
    it = World({"a": Process(beats=False)})
    assert it.go_on(6) == ["a"]


def test_a_new_incarnation_begins_with_no_age() -> None:
    it = world(**{"a.1": Process(beats=False)})
    it.go_on(4.5)
    it.processes["a.2"] = replace(it.processes.pop("a.1"))
    assert it.go_on(4.5) == []
    assert it.go_on(1) == ["a.2"]


# --- learnt ---------------------------------------------------------------------------------------


def test_a_machine_that_was_seen_to_be_fast_gives_a_step_less_time() -> None:
    it = world(a=Process(doing=Doing.WORKING, share=1.0, per_s=10))
    it.go_on(5)
    it.processes["a"].per_s = 0
    it.go_on(SETTINGS.working_s)
    at, hung = it.first("a")
    # 50 times a tenth of a second is less than the floor.
    assert SETTINGS.stuck_s < at - 5 <= SETTINGS.stuck_s + 0.3
    assert "though it computes" in hung.reason


def test_a_machine_that_was_seen_to_be_slow_gives_a_step_more_time() -> None:
    it = world(a=Process(doing=Doing.WORKING, share=1.0))
    for _ in range(20):
        it.go_on(0.8)
        it.processes["a"].progress += 1
    began = it.now
    assert it.go_on(39) == []
    assert it.go_on(3) == ["a"]
    assert 39 < it.first("a")[0] + 1000.0 - began < 42


def test_nothing_is_learnt_from_a_few_steps() -> None:
    it = world(a=Process(doing=Doing.WORKING, share=1.0))
    for _ in range(5):
        it.go_on(0.2)
        it.processes["a"].progress += 1
    assert it.go_on(SETTINGS.working_s - 1) == []
    assert it.go_on(2) == ["a"]


def test_idle_time_between_two_steps_is_no_step() -> None:
    it = world(a=Process(doing=Doing.WORKING, share=1.0, per_s=10))
    it.go_on(5)
    it.processes["a"].doing, it.processes["a"].per_s = Doing.IDLE, 0
    it.go_on(100)
    it.processes["a"].doing = Doing.WORKING
    assert it.go_on(SETTINGS.stuck_s + 1) == ["a"]


def test_who_is_not_asked_about_at_every_look_is_found_all_the_same() -> None:
    it = world(a=Process())
    it.go_on(1)
    it.processes["a"].beats = False
    for turn in range(200):
        it.now += 0.1
        for process in it.processes.values():
            process.live(it.now, 0.1)
        seen: list[tuple[str, Look | None, Signs | None]] = []
        for name, process in it.processes.items():
            look, signs = process.seen()
            seen.append((name, look if turn % 5 == 0 else None, signs))
        it.found += [(it.now, name, hung) for name, hung in it.watchman.look(it.now, seen)]
    assert SETTINGS.idle_s + 1 < it.first("a")[0] < SETTINGS.idle_s + 2


# --- suspected --------------------------------------------------------------------------------


def suspected(**a: Any) -> World:
    """A world whose ``a`` has worked for a while, when somebody gives it up."""
    it = world(a=Process(doing=Doing.WORKING, per_s=10))
    assert it.go_on(5) == []
    for name, value in a.items():
        setattr(it.processes["a"], name, value)
    it.watchman.suspect("a", it.now)
    return it


def test_who_was_given_up_and_does_nothing_is_believed_to_hang_after_a_moment() -> None:
    it = suspected(per_s=0)
    assert it.go_on(SETTINGS.cancel_s - 0.1) == []
    assert it.go_on(0.4) == ["a"]
    at, hung = it.first("a")
    assert at < 5 + SETTINGS.cancel_s + 0.5
    assert hung.loop_turns


def test_so_is_one_whose_loop_does_not_turn_either() -> None:
    it = suspected(per_s=0, beats=False)
    assert it.go_on(SETTINGS.cancel_s + 0.4) == ["a"]
    assert not it.first("a")[1].loop_turns


def test_who_was_given_up_and_computes_has_its_usual_time() -> None:
    it = suspected(per_s=0, share=1.0, state="R")
    assert it.go_on(SETTINGS.stuck_s - 1) == []
    assert it.go_on(2) == ["a"]


def test_who_was_given_up_and_waits_for_a_disk_is_left_alone() -> None:
    assert suspected(per_s=0, state="D").go_on(30) == []


def test_who_was_given_up_and_gets_on_is_suspected_no_more() -> None:
    it = suspected()
    assert it.go_on(0.5) == []
    it.processes["a"].per_s = 0
    assert it.go_on(SETTINGS.stuck_s - 1) == []
    assert it.go_on(2) == ["a"]


def test_who_was_given_up_and_lets_go_is_suspected_no_more() -> None:
    it = suspected(per_s=0)
    it.go_on(0.5)
    it.processes["a"].doing = Doing.IDLE
    assert it.go_on(100) == []


def test_who_had_let_go_before_it_was_given_up_is_not_suspected() -> None:
    it = world(a=Process())
    it.go_on(1)
    it.watchman.suspect("a", it.now)
    it.go_on(1)
    it.processes["a"].beats = False
    assert it.go_on(SETTINGS.idle_s - 0.5) == []
    assert it.go_on(1) == ["a"]


def test_a_suspicion_is_forgotten_when_the_machine_was_away() -> None:
    it = suspected(per_s=0)
    it.now += 100
    it.look()
    assert it.go_on(SETTINGS.stuck_s - 1) == []
    assert it.go_on(2) == ["a"]


def test_to_suspect_one_that_is_not_there_does_nothing() -> None:
    it = world(a=Process())
    it.watchman.suspect("b", it.now)
    assert it.go_on(10) == []
