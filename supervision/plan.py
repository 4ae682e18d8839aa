"""The supervisor's decisions: events and ``now`` in, effects out. Pure.

The shell (`supervisor.py`) does what the effects say and tells what came of it; everything that
could go wrong about order, time-outs and restarts can be tested here in microseconds.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace

from configs.schema import Settings
from protocol.errors import InvalidRequest, NotFound
from protocol.lifecycle import ActorState
from protocol.messages.actor import Counters
from protocol.messages.supervisor import Activity, DirectoryEntry, Heartbeat
from supervision.child import CHILD, Child, ChildEvent, ChildState
from supervision.failures import Failures
from supervision.hangs import Hung
from supervision.order import start_order, stop_order
from supervision.restart import SETUP_EXIT_CODE, Again, Exit, GiveUp, RestartPolicy

EXIT_REPORT_S = 0.5
"""How long to wait for the spawner's word on how a process ended, which is also its word that
nothing of it is left. It comes within milliseconds; a descendant that is stuck in the kernel, or a
stopped spawner, lets this run out."""

LAST_WORDS_S = 0.2
"""How long to wait for the word of an actor that ended because it cannot start: the kernel and the
spawner may tell of the end before the heartbeat with the reason is read. It was sent before."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Ask the spawner for a process."""

    name: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the process of this incarnation."""

    name: str
    epoch: str
    signal: signal.Signals


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the directory's watchers of this actor."""

    name: str


@dataclass(frozen=True, slots=True)
class Forget:
    """This incarnation is gone: remove its socket, let go of its pidfd."""

    name: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Tell:
    """An event for whoever watches, and for the log."""

    what: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ReplaceSpawner:
    """It does not answer: kill it and start another."""


@dataclass(frozen=True, slots=True)
class AllStopped:
    """Nothing runs any more; the supervisor may end."""


Effect = Spawn | Signal | Publish | Forget | Tell | ReplaceSpawner | AllStopped

_SPAWNER_SILENT: list[Effect] = [
    Tell("spawner.silent", "spawner", "the spawner does not answer; replacing it"),
    ReplaceSpawner(),
]


class Plan:
    """All children and what is to be done about them.

    Every public method returns the effects of its event, in the order they are to be done.
    """

    def __init__(
        self, settings: Settings, boot: str, restarts: Mapping[str, int] | None = None
    ) -> None:
        """``restarts``: how often each actor was started again under earlier supervisors."""
        self._settings = settings
        self._boot = boot
        self._counter = 0
        self._stopping: list[set[str]] | None = None
        self._spawner_ready = False
        self._spawner_due: float | None = None
        self._spawner_killed = False
        needs = {name: entry.needs for name, entry in settings.actors.items()}
        self._stops_before = {
            name: [*entry.needs, *(used for used in entry.uses if used in settings.actors)]
            for name, entry in settings.actors.items()
        }
        self.children = {
            name: Child(
                name, needs[name], RestartPolicy(settings.restart, settings.actors[name].restart),
                restarts=(restarts or {}).get(name, 0),
            )
            for name in start_order(needs)
        }  # fmt: skip

    def child(self, name: str) -> Child:
        """The child of this name. Raises `NotFound` listing those there are."""
        try:
            return self.children[name]
        except KeyError:
            known = ", ".join(self.children)
            raise NotFound(f"there is no actor {name!r}; there are: {known}") from None

    def entry(self, name: str) -> DirectoryEntry:
        """What the directory says of it; without ``endpoint``, which the shell knows."""
        child = self.children[name]
        return DirectoryEntry(
            name=name, epoch=child.epoch if child.runs else "", state=child.public_state,
            reason=child.reason, info=child.info,
        )  # fmt: skip

    def restarted(self, name: str) -> bool:
        """Whether this is not its first incarnation."""
        return name in self.children and self.children[name].restarts > 0

    @property
    def stopping(self) -> bool:
        """Whether everything is being stopped."""
        return self._stopping is not None

    # --- starting -------------------------------------------------------------------------

    def spawner_started(self, now: float) -> list[Effect]:
        """A spawner was started; it has so long to say that it is ready."""
        self._spawner_due = now + self._settings.supervisor.start_timeout_s
        self._spawner_killed = False
        return []

    def spawner_ready(self, now: float) -> list[Effect]:
        """The spawner, or a new one, takes orders."""
        self._spawner_ready = True
        self._spawner_due = None
        return self._start_what_can(now)

    def spawner_lost(self, now: float) -> list[Effect]:
        """The spawner died. Its children die with it, which their pidfds tell by themselves."""
        self._spawner_ready = False
        self._spawner_due = None
        effects: list[Effect] = [
            Tell("spawner.died", "spawner", "the spawner died; starting another")
        ]
        for child in self.children.values():
            if child.state is ChildState.SPAWNING:
                child.take(ChildEvent.SPAWNER_LOST, now)
                child.epoch = ""
            elif child.state is ChildState.DEAD:
                # The word on how it ended will not come any more.
                effects += self._decide(child, Exit(collateral=True), now)
        return effects

    def spawner_stopped(self) -> list[Effect]:
        """It was seen to be stopped by a signal: without it nobody who dies comes back."""
        if self._spawner_killed or self._stopping is not None:
            return []
        self._spawner_killed = True
        text = "the spawner was stopped by a signal (state T); replacing it"
        return [Tell("spawner.stopped", "spawner", text), ReplaceSpawner()]

    def _start_what_can(self, now: float) -> list[Effect]:
        if self._stopping is not None or not self._spawner_ready:
            return []
        effects: list[Effect] = []
        for child in self.children.values():
            if child.state is not ChildState.WAITING:
                continue
            missing = [n for n in child.needs if self.children[n].state is not ChildState.READY]
            waits_for = f"waits for {', '.join(missing)}" if missing else ""
            if child.reason != waits_for:
                child.reason = waits_for
                effects.append(Publish(child.name))
            if not missing:
                effects += self._spawn(child, now)
        return effects

    def _spawn(self, child: Child, now: float) -> list[Effect]:
        self._counter += 1
        child.take(ChildEvent.SPAWN, now)
        child.epoch = f"{self._boot}-{self._counter}"
        child.due_at = now + self._settings.supervisor.spawn_timeout_s
        child.pid = child.ready_at = child.heard_at = None
        child.activity, child.counters = Activity(), Counters()
        child.failures = Failures(self._settings.health)
        child.killed, child.ended_for, child.early = False, "", None
        return [Spawn(child.name, child.epoch)]

    def spawned(self, name: str, epoch: str, pid: int, now: float) -> list[Effect]:
        """The spawner made the process."""
        child = self.children[name]
        if child.epoch != epoch or child.state is not ChildState.SPAWNING:
            # Nobody waits for it any more: it must not live on unwatched.
            return [Signal(name, epoch, signal.SIGKILL)]
        child.take(ChildEvent.SPAWNED, now)
        child.pid, child.spawned_at = pid, now
        child.due_at = now + self._settings.supervisor.start_timeout_s
        effects: list[Effect] = [Publish(name)]
        if child.early is not None:
            effects += self.heartbeat(name, epoch, child.early, now)
        return effects

    def spawn_failed(self, name: str, epoch: str, reason: str, now: float) -> list[Effect]:
        """The spawner could not make the process. Its siblings are none the worse for it."""
        child = self.children[name]
        if child.epoch != epoch or child.state is not ChildState.SPAWNING:
            return []
        child.take(ChildEvent.SPAWN_FAILED, now)
        return self._decide(child, Exit(never_ran=reason), now)

    def heartbeat(self, name: str, epoch: str, beat: Heartbeat, now: float) -> list[Effect]:
        """An actor's sign of life. Those of another incarnation are ignored."""
        child = self.children.get(name)
        if child is None or child.epoch != epoch:
            return []
        if child.state is ChildState.DEAD and beat.reason:
            # Its last words: sent before its end, and read after that.
            child.reason = beat.reason
            return self._decide(child, child.unexplained, now) if child.unexplained else []
        if child.state is ChildState.SPAWNING:
            # It was quicker than the spawner's word on it, which comes another way.
            child.early = beat
            return []
        if not child.alive:
            return []
        child.heard_at = now
        if child.state is ChildState.STARTING:
            child.due_at = None
        changed = (child.reason, child.info) != (beat.reason, beat.info)
        child.reason, child.info = beat.reason, beat.info
        child.activity, child.counters = beat.activity, beat.counters
        if child.failures is not None:
            child.failures.take(beat.counters, now)
        if beat.state is ActorState.READY and child.state is ChildState.STARTING:
            child.take(ChildEvent.READY, now)
            child.ready_at = now
            took = (now - child.spawned_at) * 1000 if child.spawned_at is not None else 0.0
            return [
                Publish(name),
                Tell("actor.ready", name, f"{name} is ready ({took:.0f} ms after its spawn)"),
                *self._start_what_can(now),
            ]
        if beat.state is ActorState.UNAVAILABLE and child.state is ChildState.STARTING:
            child.take(ChildEvent.UNAVAILABLE, now)
            child.ready_at = now
            text = f"{name} is unavailable: {child.reason}"
            return [Publish(name), Tell("actor.unavailable", name, text)]
        return [Publish(name)] if changed else []

    # --- hanging --------------------------------------------------------------------------

    def hung(self, name: str, epoch: str, verdict: Hung, now: float) -> list[Effect]:
        """It was found to hang. One that is stopped is killed, any other asked to end first."""
        child = self.children[name]
        if child.epoch != epoch or not child.runs or child.killed:
            return []
        if verdict.stopped or child.state is ChildState.STOPPING:
            if child.ended_for and not verdict.stopped:
                # It was asked to end, and has some time for it.
                return []
            child.ended_for, child.killed = f"hung: {verdict.reason}", True
            return [
                Tell("actor.hung", name, f"{name} hangs, and is killed: {verdict.reason}"),
                Publish(name),
                Signal(name, epoch, signal.SIGKILL),
            ]
        child.ended_for = f"hung: {verdict.reason}"
        return [
            Tell("actor.hung", name, f"{name} hangs, and is asked to end: {verdict.reason}"),
            *self._tell_to_stop(child, now, self._settings.hang.term_s),
        ]

    def has_memory(self, name: str, epoch: str, rss_bytes: int, now: float) -> list[Effect]:
        """It has so much memory. Above its ceiling it is drained and started again, before the
        kernel kills whom it likes."""
        child, entry = self.children[name], self._settings.actors[name]
        if child.epoch != epoch or not child.serves or entry.memory_mib is None:
            return []
        if rss_bytes <= entry.memory_mib * 2**20:
            return []
        child.ended_for = (
            f"needed {rss_bytes / 2**20:.0f} MiB of memory, more than its {entry.memory_mib:g}"
        )
        return [
            Tell("actor.too_large", name, f"{name} is drained: it {child.ended_for}"),
            *self._tell_to_stop(child, now),
        ]

    # --- ending ---------------------------------------------------------------------------

    def died(self, name: str, epoch: str, now: float) -> list[Effect]:
        """The kernel says that the process is gone; how it ended comes with `ended`."""
        child = self.children[name]
        if child.epoch != epoch or not CHILD.allows(child.state, ChildEvent.DIED):
            return [Forget(name, epoch)]
        # READY is left by a stop too; what counts is whether it had been reached.
        child.take(ChildEvent.DIED, now)
        child.pid = None
        child.due_at = now + EXIT_REPORT_S
        effects: list[Effect] = [Publish(name), Forget(name, epoch)]
        if not self._spawner_ready:
            effects += self._decide(child, Exit(collateral=True), now)
        return effects

    def ended(self, name: str, epoch: str, exit_: Exit, now: float) -> list[Effect]:
        """The spawner says how a process ended; it may say so before `died`."""
        child = self.children[name]
        if child.epoch != epoch:
            return []
        effects: list[Effect] = []
        if CHILD.allows(child.state, ChildEvent.DIED):
            effects = self.died(name, epoch, now)
        if child.state is not ChildState.DEAD:
            return effects
        if exit_.code == SETUP_EXIT_CODE and not child.reason and self._stopping is None:
            child.unexplained = exit_
            child.due_at = now + LAST_WORDS_S
            return effects
        return effects + self._decide(child, exit_, now)

    def _decide(self, child: Child, exit_: Exit, now: float) -> list[Effect]:
        if child.ended_for:
            exit_ = replace(exit_, ended_for=child.ended_for)
        child.last_exit = str(exit_)
        ready_for = now - child.ready_at if child.ready_at is not None else None
        said = child.reason
        child.reason, child.epoch, child.unexplained = "", "", None
        child.ready_at = child.heard_at = None
        if self._stopping is not None:
            child.take(ChildEvent.STAY_STOPPED, now)
            return [Publish(child.name), *self._continue_stopping(now)]
        if child.stop_again:
            child.stop_again = False
            child.restarts += 1
            child.take(ChildEvent.AGAIN, now)
            return self._start_what_can(now)
        decision = child.policy.decide(now, exit_, ready_for)
        text = f"{child.name} {exit_}"
        if isinstance(decision, Again):
            child.restarts += 1
            if decision.after_s <= 0:
                child.take(ChildEvent.AGAIN, now)
                return [Tell("actor.died", child.name, f"{text}; restarting at once"),
                        *self._start_what_can(now)]  # fmt: skip
            child.take(ChildEvent.AGAIN_LATER, now)
            child.due_at = now + decision.after_s
            child.reason = f"{exit_}; next try in {decision.after_s:.1f} s"
            return [Publish(child.name), Tell("actor.died", child.name, f"{text}; {child.reason}")]
        if isinstance(decision, GiveUp):
            child.take(ChildEvent.GIVE_UP, now)
            child.reason = said or decision.reason
            text = f"{child.name} failed: {child.reason}; `noyau restart {child.name}` tries again"
            return [Publish(child.name), Tell("actor.failed", child.name, text)]
        child.take(ChildEvent.STAY_STOPPED, now)
        child.reason = str(exit_)
        return [Publish(child.name), Tell("actor.stopped", child.name, text)]

    # --- orders ---------------------------------------------------------------------------

    def restart(self, name: str, now: float) -> list[Effect]:
        """Drain and start again; start what has failed. Raises `NotFound`, or `InvalidRequest`
        while everything is being stopped."""
        child = self.child(name)
        if self._stopping is not None:
            raise InvalidRequest("everything is being stopped")
        child.policy.forgive()
        if child.state in (ChildState.FAILED, ChildState.STOPPED):
            child.restarts += 1
            child.take(ChildEvent.AGAIN, now)
            child.reason = ""
            return [Publish(name), *self._start_what_can(now)]
        if child.state is ChildState.BACKOFF:
            child.take(ChildEvent.DUE, now)
            return self._start_what_can(now)
        if child.serves:
            child.stop_again = True
            return self._tell_to_stop(child, now)
        return []

    def stop(self, now: float) -> list[Effect]:
        """Stop everything, dependants first. Calling it again changes nothing."""
        if self._stopping is not None:
            return []
        self._stopping = stop_order(self._stops_before)
        return [Tell("system.stopping", "supervisor", "stopping"), *self._continue_stopping(now)]

    def _continue_stopping(self, now: float) -> list[Effect]:
        assert self._stopping is not None
        effects: list[Effect] = []
        while self._stopping:
            running = [self.children[n] for n in sorted(self._stopping[0]) if self._runs(n)]
            for child in running:
                if child.serves:
                    effects += self._tell_to_stop(child, now)
            if running:
                return effects
            for name in sorted(self._stopping.pop(0)):
                child = self.children[name]
                if child.state is not ChildState.STOPPED:
                    child.take(ChildEvent.STOP, now)
                    effects.append(Publish(name))
        return [*effects, AllStopped()]

    def _runs(self, name: str) -> bool:
        child = self.children[name]
        return child.runs or child.state is ChildState.DEAD

    def _tell_to_stop(
        self, child: Child, now: float, patience_s: float | None = None
    ) -> list[Effect]:
        child.take(ChildEvent.STOP, now)
        drain_s = self._settings.supervisor.drain_timeout_s
        child.due_at = now + (drain_s if patience_s is None else patience_s)
        return [Signal(child.name, child.epoch, signal.SIGTERM), Publish(child.name)]

    # --- time -----------------------------------------------------------------------------

    def next_at(self) -> float | None:
        """When `tick` has something to do, monotonic seconds."""
        due = [self._spawner_due, *(child.due_at for child in self.children.values())]
        return min((at for at in due if at is not None), default=None)

    def tick(self, now: float) -> list[Effect]:
        """Do what has come due."""
        effects: list[Effect] = []
        if self._spawner_due is not None and self._spawner_due <= now:
            self._spawner_due = None
            effects += _SPAWNER_SILENT
        for child in self.children.values():
            # Looked at one by one: what is done for one may give another a new state and time.
            if child.due_at is not None and child.due_at <= now:
                effects += self._on_due(child, now)
        return effects

    def _on_due(self, child: Child, now: float) -> list[Effect]:
        child.due_at = None
        match child.state:
            case ChildState.BACKOFF:
                child.take(ChildEvent.DUE, now)
                return self._start_what_can(now)
            case ChildState.DEAD:
                return self._decide(child, child.unexplained or Exit(), now)
            case ChildState.SPAWNING:
                return _SPAWNER_SILENT
            case ChildState.STARTING | ChildState.STOPPING if not child.killed:
                child.killed = True
                what = "start" if child.state is ChildState.STARTING else "stop"
                return [
                    Tell("actor.killed", child.name, f"{child.name} did not {what} in time"),
                    Signal(child.name, child.epoch, signal.SIGKILL),
                ]
        return []
