"""The plan against a world that does anything at any time.

The world here is what the shell, the spawner and the kernel are: it takes the plan's effects,
lets processes live and die, and passes on what is said of them: in order on the spawner's
channel, in any order otherwise, late, or (with a lost spawner) never.
"""

from __future__ import annotations

import signal
from collections import deque
from typing import Literal, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.errors import InvalidRequest
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import Heartbeat
from supervision.child import ChildState
from supervision.effects import AllStopped, Effect, ReplaceSpawner, Signal, Spawn
from supervision.plan import Plan
from supervision.restart import SETUP_EXIT_CODE, Exit
from tests.support.planning import settings_of

NEEDS = {"a": [], "b": ["a"], "c": ["a", "b"], "d": []}
SETTINGS = settings_of(NEEDS, {"d": "transient"}, restart={"max_restarts": 3, "window_s": 30})
NAMES = st.sampled_from(sorted(NEEDS))
STATES = st.sampled_from([ActorState.STARTING, ActorState.READY])
STATUSES = st.sampled_from([0, 1, SETUP_EXIT_CODE, -signal.SIGKILL])


class Key(NamedTuple):
    """One incarnation."""

    name: str
    epoch: str


class Said(NamedTuple):
    """A packet of the spawner."""

    what: Literal["spawned", "failed", "ended"]
    key: Key
    status: int = 0


class World(RuleBasedStateMachine):
    """Processes, their spawner and the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.plan = Plan(SETTINGS, "boot")
        self.plan.spawner_started(self.now)
        self.orders: deque[Key] = deque()
        self.channel: deque[Said] = deque()
        self.alive: set[Key] = set()
        self.watched: set[Key] = set()
        """The supervisor has their pidfd."""
        self.epochs: list[str] = []
        self.incarnations: list[Key] = []
        self.spawner_lives = True
        self.spawner_ready = False
        self.ends = 0
        self.patient = True
        """Whether the end is waited for until everybody is up."""

    # --- effects ------------------------------------------------------------------------------

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Spawn(name, epoch):
                    assert epoch not in self.epochs, "an epoch was used twice"
                    assert self.spawner_ready, "a spawner that is not ready was asked"
                    assert not self.plan.stopping, "somebody was started while all are stopped"
                    self.epochs.append(epoch)
                    if self.spawner_lives:
                        self.orders.append(Key(name, epoch))
                case Signal(name, epoch, number):
                    key = Key(name, epoch)
                    assert key in self.incarnations, "a signal for a process that never was"
                    if number is signal.SIGKILL and key in self.alive:
                        self.die(key, -signal.SIGKILL)
                case ReplaceSpawner():
                    self.kill_spawner()
                case AllStopped():
                    self.ends += 1

    def die(self, key: Key, status: int) -> None:
        self.alive.remove(key)
        if self.spawner_lives:
            self.channel.append(Said("ended", key, status))

    def kill_spawner(self) -> None:
        for key in sorted(self.alive):
            self.die(key, -signal.SIGKILL)
        self.spawner_lives = False
        self.orders.clear()

    def corpses(self) -> list[Key]:
        """The dead whose pidfd is readable."""
        return sorted(self.watched - self.alive)

    # --- what may happen ----------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 7.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.plan.tick(self.now))

    @precondition(lambda self: self.plan.next_at() is not None)
    @rule()
    def the_alarm_rings(self) -> None:
        at = self.plan.next_at()
        assert at is not None
        self.now = max(self.now, at)
        self.do(self.plan.tick(self.now))
        after = self.plan.next_at()
        assert after is None or after > self.now, "the alarm would ring for ever"

    @precondition(lambda self: self.spawner_lives and not self.spawner_ready)
    @rule()
    def the_spawner_takes_orders(self) -> None:
        self.spawner_ready = True
        self.do(self.plan.spawner_ready(self.now))

    @precondition(lambda self: self.orders)
    @rule()
    def the_spawner_forks(self) -> None:
        key = self.orders.popleft()
        self.alive.add(key)
        self.incarnations.append(key)
        self.channel.append(Said("spawned", key))

    @precondition(lambda self: self.orders)
    @rule()
    def the_spawner_cannot_fork(self) -> None:
        self.channel.append(Said("failed", self.orders.popleft()))

    @precondition(lambda self: self.channel)
    @rule()
    def the_spawner_is_heard(self) -> None:
        what, key, status = self.channel.popleft()
        if what == "spawned":
            self.watched.add(key)
            self.do(self.plan.spawned(*key, 1, self.now))
        elif what == "failed":
            self.do(self.plan.spawn_failed(*key, "cannot fork", self.now))
        else:
            self.do(self.plan.ended(*key, Exit.from_status(status), self.now))

    @precondition(lambda self: self.spawner_lives)
    @rule()
    def the_spawner_dies(self) -> None:
        self.kill_spawner()

    @precondition(lambda self: not self.spawner_lives)
    @rule(last_words_are_lost=st.booleans())
    def the_spawners_death_is_seen(self, last_words_are_lost: bool) -> None:
        while self.channel and not last_words_are_lost:
            self.the_spawner_is_heard()
        self.channel.clear()
        self.spawner_ready = False
        self.do(self.plan.spawner_lost(self.now))
        self.spawner_lives = True
        self.do(self.plan.spawner_started(self.now))

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0, 99), status=STATUSES)
    def a_process_dies(self, pick: int, status: int) -> None:
        self.die(sorted(self.alive)[pick % len(self.alive)], status)

    @precondition(lambda self: self.corpses())
    @rule(pick=st.integers(0, 99))
    def the_kernel_tells_of_a_death(self, pick: int) -> None:
        key = self.corpses()[pick % len(self.corpses())]
        self.watched.remove(key)
        self.do(self.plan.died(*key, self.now))

    @precondition(lambda self: self.incarnations)
    @rule(pick=st.integers(0, 99), state=STATES, reason=st.sampled_from(["", "no network"]))
    def a_heartbeat_comes(self, pick: int, state: ActorState, reason: str) -> None:
        """Of any incarnation that ever was: those of the dead may have been on their way."""
        key = self.incarnations[pick % len(self.incarnations)]
        self.do(self.plan.heartbeat(*key, Heartbeat(state=state, reason=reason), self.now))

    @rule(name=NAMES)
    def somebody_restarts(self, name: str) -> None:
        if self.plan.stopping:
            with pytest.raises(InvalidRequest):
                self.plan.restart([name], self.now)
        else:
            self.do(self.plan.restart([name], self.now))

    @rule(names=st.lists(NAMES, unique=True, max_size=3))
    def somebody_restarts_several_in_turn(self, names: list[str]) -> None:
        if not self.plan.stopping:
            self.do(self.plan.restart(names, self.now))

    @rule(name=NAMES)
    def somebody_drains(self, name: str) -> None:
        if not self.plan.stopping:
            self.do(self.plan.drain(name, self.now))

    @rule(really=st.booleans())
    def somebody_stops_everything(self, really: bool) -> None:
        if really:
            self.do(self.plan.stop(self.now))

    @initialize(steps=st.integers(0, 30), patient=st.booleans())
    def nothing_failed_so_far(self, steps: int, patient: bool) -> None:
        self.patient = patient
        self.nothing_fails_for_a_while(steps)

    @rule(steps=st.integers(1, 20))
    def nothing_fails_for_a_while(self, steps: int) -> None:
        for _ in range(steps):
            self.goes_on()
            self.check()

    # --- what must always hold ----------------------------------------------------------------

    @invariant()
    def nobody_lives_twice(self) -> None:
        for name in NEEDS:
            lives = [key for key in self.alive if key.name == name]
            assert len(lives) <= 1, f"two incarnations at once: {lives}"

    @invariant()
    def nobody_is_forgotten(self) -> None:
        children = self.plan.children
        for name, child in children.items():
            key = Key(name, child.epoch)
            match child.state:
                case ChildState.STOPPED | ChildState.FAILED:
                    assert child.due_at is None
                case ChildState.STARTING | ChildState.READY | ChildState.STOPPING:
                    assert key in self.watched, "it has no process that anybody watches"
                case ChildState.BACKOFF | ChildState.DEAD:
                    assert child.due_at is not None, "nothing will ever wake it"
                case ChildState.SPAWNING:
                    assert child.due_at is not None or not self.spawner_lives
                case ChildState.WAITING:
                    unmet = [n for n in child.needs if children[n].state is not ChildState.READY]
                    assert unmet or not self.spawner_ready or self.plan.stopping

    @invariant()
    def a_spawner_that_says_nothing_is_not_waited_for_without_end(self) -> None:
        if self.spawner_lives and not self.spawner_ready:
            assert self.plan.next_at() is not None

    @invariant()
    def the_end_comes_at_most_once_and_not_while_somebody_is_watched(self) -> None:
        assert self.ends <= 1
        if self.ends:
            assert {child.state for child in self.plan.children.values()} == {ChildState.STOPPED}

    # --- and in the end -----------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything that is under way come to its end."""
        for _ in range(300):
            if not self.goes_on():
                return
            self.check()
        raise AssertionError("it never comes to rest")

    def goes_on(self) -> bool:
        """The next step of a world where nothing fails by itself; False when there is none."""
        unready = sorted(key for key in self.alive if self.is_starting(key))
        if not self.spawner_lives:
            self.the_spawners_death_is_seen(last_words_are_lost=False)
        elif not self.spawner_ready:
            self.the_spawner_takes_orders()
        elif self.orders:
            self.the_spawner_forks()
        elif self.channel:
            self.the_spawner_is_heard()
        elif self.corpses():
            self.the_kernel_tells_of_a_death(0)
        elif unready:
            beat = Heartbeat(state=ActorState.READY)
            self.do(self.plan.heartbeat(*unready[0], beat, self.now))
        elif self.plan.next_at() is not None:
            self.the_alarm_rings()
        else:
            return False
        return True

    def is_starting(self, key: Key) -> bool:
        child = self.plan.children[key.name]
        return child.epoch == key.epoch and child.state is ChildState.STARTING

    def check(self) -> None:
        self.nobody_lives_twice()
        self.nobody_is_forgotten()
        self.a_spawner_that_says_nothing_is_not_waited_for_without_end()
        self.the_end_comes_at_most_once_and_not_while_somebody_is_watched()

    def teardown(self) -> None:
        """Left in peace, everybody comes up; told to stop, everything ends."""
        if self.patient and not self.plan.stopping:
            self.settle()
            for name, child in self.plan.children.items():
                up = all(self.plan.children[n].state is ChildState.READY for n in child.needs)
                resting = (ChildState.STOPPED, ChildState.FAILED)
                assert child.state is ChildState.READY or child.state in resting or not up, name
        self.do(self.plan.stop(self.now))
        self.settle()
        assert self.ends == 1
        assert not self.alive


World.TestCase.settings = settings(max_examples=300, stateful_step_count=50)
TestPlanInAnyWorld = World.TestCase
