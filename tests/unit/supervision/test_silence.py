"""A supervisor is stopped, wedged, starved, debugged, or slow to start: judged beat by beat."""

from __future__ import annotations

from dataclasses import dataclass, field

from supervision.looks import Look
from supervision.silence import AGAIN_S, BEAT_S, LATE_S, QUIET_S, SILENT_S, STARTING_S, Silence


@dataclass
class Guarding:
    """A guard that listens to a supervisor, as a test moves both."""

    state: str = "S"
    share: float = 0.0
    """Of a core that it uses."""
    beats: bool = True
    now: float = 1000.0
    cpu_s: float = 50.0
    silence: Silence = field(default_factory=lambda: Silence(1000.0))

    def go_on(self, seconds: float) -> str | None:
        """Time passes, and the guard does as it does; why it kills, if it does."""
        until = self.now + seconds
        while self.now < until:
            passes = BEAT_S if self.beats else self.silence.patience_s
            self.now += passes
            self.cpu_s += self.share * passes
            if self.beats:
                self.silence.heard(self.now)
            elif reason := self.look():
                return reason
        return None

    def look(self) -> str | None:
        return self.silence.look(self.now, Look(self.state, self.cpu_s))


def started() -> Guarding:
    """One that has been heard."""
    it = Guarding()
    it.go_on(10)
    return it


def silent(state: str = "S", share: float = 0.0) -> Guarding:
    """One that was heard, and is not heard any more."""
    it = started()
    it.beats, it.state, it.share = False, state, share
    return it


def test_whoever_is_heard_is_left_alone() -> None:
    assert Guarding().go_on(10_000) is None


def test_a_stopped_supervisor_is_found_within_a_second() -> None:
    assert silent("T").go_on(1 - BEAT_S) == "it was stopped by a signal (state T)"


def test_a_supervisor_that_is_stopped_while_it_starts_is_found_as_soon() -> None:
    assert Guarding("T", beats=False).go_on(1) is not None


def test_a_supervisor_seems_stopped_at_one_look_and_is_looked_at_again_soon() -> None:
    it = silent("T")
    it.now += QUIET_S
    assert it.look() is None
    assert it.silence.patience_s == AGAIN_S
    assert it.look() is not None


def test_a_supervisor_that_was_stopped_for_a_moment_only_is_let_go_on() -> None:
    it = silent("T")
    it.now += QUIET_S
    assert it.look() is None
    it.state = "S"
    assert it.look() is None
    it.state = "T"
    assert it.look() is None


def test_a_beat_between_two_looks_shows_that_it_goes_on() -> None:
    it = silent("T")
    assert it.look() is None
    it.silence.heard(it.now)
    assert it.look() is None


def test_a_debugger_stops_it_for_as_long_as_it_likes() -> None:
    it = silent("t")
    assert it.go_on(10 * SILENT_S) is None
    it.state = "S"
    assert it.go_on(SILENT_S - 1) is None


def test_a_loop_that_stands_still_is_believed_after_the_bound() -> None:
    it = silent()
    assert it.go_on(SILENT_S - 1) is None
    reason = it.go_on(2)
    assert reason is not None
    assert "event loop has not turned" in reason


def test_a_loop_that_computes_without_end_stands_still_as_well() -> None:
    assert silent("R", share=1.0).go_on(SILENT_S + 1) is not None


def test_a_start_is_given_more_time() -> None:
    it = Guarding(beats=False, share=0.5)
    assert it.go_on(STARTING_S - 1) is None
    assert it.go_on(2) is not None


def test_who_waits_for_a_disk_is_excused_and_judged_when_that_is_over() -> None:
    it = silent("D")
    assert it.go_on(10 * SILENT_S) is None
    it.state = "S"
    assert it.go_on(1) is not None


def test_who_wants_to_run_and_is_not_let_is_excused() -> None:
    assert silent("R", share=0.1).go_on(10 * SILENT_S) is None


def test_a_guard_that_was_late_itself_gives_the_whole_time_again() -> None:
    it = silent()
    it.go_on(SILENT_S - 1)
    it.now += LATE_S + 3600
    assert it.look() is None
    assert it.go_on(SILENT_S - 1) is None
    assert it.go_on(2) is not None


def test_a_guard_that_was_late_sees_a_stop_at_two_looks_after_that() -> None:
    it = silent("T")
    it.look()
    it.now += LATE_S + 1
    assert it.look() is None
    assert it.look() is not None
