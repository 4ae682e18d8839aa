"""The supervisor's decisions: events and ``now`` in, effects out. Pure.

The shell (`supervisor.py`) does what the effects say and tells what came of it; everything that
could go wrong about order, time-outs and restarts can be tested here in microseconds.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace

from configs.schema import Settings
from protocol.epochs import new_epoch, same_makers
from protocol.errors import InvalidRequest, NotFound
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import DirectoryEntry, Heartbeat
from supervision import ending
from supervision.child import CHILD, Child, ChildEvent, ChildState, Then
from supervision.effects import (
    AllStopped,
    Effect,
    Forget,
    Publish,
    ReplaceSpawner,
    Signal,
    Spawn,
    Tell,
)
from supervision.hangs import Hung
from supervision.ladder import Rung
from supervision.order import dependants, start_order, stop_order
from supervision.restart import SETUP_EXIT_CODE, Again, Exit, GiveUp, RestartPolicy
from supervision.rolling import Rolling

STOPPING_REPORT_S = 0.5
"""How long to wait, while everything is being stopped, for the spawner's word on how a process
ended. It comes within milliseconds, or a third of a second where a descendant is stuck in the
kernel; and nobody is started again by what it says. Else there is the time that the spawner has for
an order, as whoever is to come back needs it for that too."""

SPAWNS_AT_ONCE = 8
"""Orders that the spawner has at a time. Each has its time-out from its order on, and one spawner
makes them one after the other."""

LAST_WORDS_S = 2.0
"""How long to wait for the word of an actor that ended because it cannot start: the kernel and the
spawner may tell of the end before the heartbeat with the reason is read. It was sent before, and
waiting for one that never comes delays nothing: who cannot start is not started again."""


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
        self._spawners = 1
        """The number of the one that is there, or is to come."""
        self._counter = 0
        self._stopping: list[set[str]] | None = None
        self._spawner_ready = False
        self._spawner_due: float | None = None
        self._spawner_killed = False
        needs = {name: entry.needs for name, entry in settings.actors.items()}
        self._needs = needs
        self._rolling = Rolling()
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

    @property
    def _maker(self) -> str:
        """What all epochs begin with that the present spawner makes, or the one to come."""
        return new_epoch(self._boot, self._spawners, 0)

    def restarted(self, name: str) -> bool:
        """Whether this is not its first incarnation."""
        return name in self.children and self.children[name].restarts > 0

    def reload(self, settings: Settings) -> None:
        """Decide by these from now on. They have the same actors, with the same needs."""
        self._settings = settings
        for name, child in self.children.items():
            child.policy.reload(settings.restart, settings.actors[name].restart)
            if child.failures is not None:
                child.failures.reload(settings.health)

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
        self._spawner_ready = self._spawner_killed = False
        self._spawner_due = None
        self._spawners += 1
        effects: list[Effect] = [
            Tell("spawner.died", "spawner", "the spawner died; starting another")
        ]
        for child in self.children.values():
            if child.state is ChildState.SPAWNING:
                child.take(ChildEvent.SPAWNER_LOST, now)
                child.epoch = ""
                if child.then is Then.STAY:
                    child.take(ChildEvent.STOP, now)
                    effects += self._stays_stopped(child)
            elif child.state is ChildState.DEAD:
                # The word on how it ended will not come any more.
                effects += self._decide(child, Exit(collateral=True), now)
        return [*effects, *self._roll_on(now)]

    def spawner_stopped(self) -> list[Effect]:
        """It was seen to be stopped by a signal: without it nobody who dies comes back."""
        if self._spawner_killed or self._stopping is not None:
            return []
        self._spawner_killed = True
        text = "the spawner was stopped by a signal (state T); replacing it"
        return [Tell("spawner.stopped", "spawner", text), ReplaceSpawner()]

    def spawner_held_up(self, for_s: float) -> None:
        """The spawner wanted to get on, and was not let for so long: it was starved, or waited for
        a disk. Nothing that it owes is due any earlier for that."""
        if self._spawner_due is not None:
            self._spawner_due += for_s
        for child in self.children.values():
            if child.state in (ChildState.SPAWNING, ChildState.DEAD) and child.due_at is not None:
                child.due_at += for_s

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
            if not missing and self._in_flight() < SPAWNS_AT_ONCE:
                effects += self._spawn(child, now)
        return effects

    def _in_flight(self) -> int:
        return sum(child.state is ChildState.SPAWNING for child in self.children.values())

    def _spawn(self, child: Child, now: float) -> list[Effect]:
        self._counter += 1
        epoch = new_epoch(self._boot, self._spawners, self._counter)
        child.begin(epoch, self._settings.health, now)
        child.due_at = now + self._settings.supervisor.spawn_timeout_s
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
        if child.then is Then.STAY:
            effects = ending.drain(child, self._settings, now)
        elif child.early is not None:
            effects += self.heartbeat(name, epoch, child.early, now)
        return effects + self._start_what_can(now)

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
        self._heed_caller(child, beat.unanswered, now)
        if child.state is ChildState.STARTING:
            child.due_at = None
        changed = (child.reason, child.info) != (beat.reason, beat.info)
        child.reason, child.info = beat.reason, beat.info
        if beat.counters.progress != child.counters.progress and child.serves:
            child.ladder.begin_anew()
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
                *self._roll_on(now),
            ]
        if beat.state is ActorState.UNAVAILABLE and child.state is ChildState.STARTING:
            child.take(ChildEvent.UNAVAILABLE, now)
            child.ready_at = now
            text = f"{name} is unavailable: {child.reason}"
            return [Publish(name), Tell("actor.unavailable", name, text), *self._roll_on(now)]
        return [Publish(name)] if changed else []

    def beats(self, name: str, epoch: str, at: float) -> None:
        """Its page says that its event loop turned at ``at``: no message needs to say so too."""
        child = self.children[name]
        if child.epoch == epoch and child.heard_at is not None:
            child.heard_at = max(child.heard_at, at)

    def _heed_caller(self, caller: Child, unanswered: Mapping[str, int], now: float) -> None:
        """What an actor saw of those that it asks."""
        if unanswered == caller.unanswered:
            return
        for other in self.children.values():
            new = unanswered.get(other.epoch, 0) - caller.unanswered.get(other.epoch, 0)
            if other.failures is not None and new > 0:
                other.failures.seen_by_callers(new, now)
        caller.unanswered = dict(unanswered)

    # --- hanging --------------------------------------------------------------------------

    def hung(self, name: str, epoch: str, verdict: Hung, now: float) -> list[Effect]:
        """It was found to hang, as every look finds it again."""
        child, settings = self.children[name], self._settings
        if child.epoch != epoch or not child.runs or child.ladder.on(Rung.KILL):
            return []
        return ending.hung(child, verdict, settings, now)

    def has_memory(self, name: str, epoch: str, rss_bytes: int, now: float) -> list[Effect]:
        """It has so much memory. Above its ceiling it is drained and started again, before the
        kernel kills whom it likes."""
        child, entry = self.children[name], self._settings.actors[name]
        if child.epoch != epoch or not child.serves or entry.memory_mib is None:
            return []
        if rss_bytes <= entry.memory_mib * 2**20:
            return []
        return ending.too_large(child, rss_bytes, entry.memory_mib, self._settings, now)

    # --- ending ---------------------------------------------------------------------------

    def died(self, name: str, epoch: str, now: float) -> list[Effect]:
        """The kernel says that the process is gone; how it ended comes with `ended`."""
        child = self.children[name]
        if child.epoch != epoch or not CHILD.allows(child.state, ChildEvent.DIED):
            return [Forget(name, epoch)]
        # READY is left by a stop too; what counts is whether it had been reached.
        child.take(ChildEvent.DIED, now)
        child.pid = None
        settings = self._settings.supervisor
        stopping = self._stopping is not None
        child.due_at = now + (STOPPING_REPORT_S if stopping else settings.spawn_timeout_s)
        effects: list[Effect] = [Publish(name), Forget(name, epoch)]
        if not self._spawner_ready or not same_makers(epoch, self._maker):
            # It died with the spawner that had made it, and no other one knows of it.
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
        said, then = child.reason, child.then
        took = child.ladder.times(now)
        child.reason, child.epoch, child.unexplained = "", "", None
        child.then = Then.DECIDE
        child.ready_at = child.heard_at = None
        if self._stopping is not None:
            child.take(ChildEvent.STAY_STOPPED, now)
            return [Publish(child.name), *self._continue_stopping(now)]
        if then is Then.STAY:
            child.take(ChildEvent.STAY_STOPPED, now)
            return [*self._stays_stopped(child, took), *self._roll_on(now)]
        if then is Then.AGAIN:
            child.restarts += 1
            child.take(ChildEvent.AGAIN, now)
            text = f"{child.name} {exit_}; it is started again"
            return [Tell("actor.stopped", child.name, text, took), *self._start_what_can(now)]
        decision = child.policy.decide(now, exit_, ready_for)
        text = f"{child.name} {exit_}"
        if isinstance(decision, Again):
            return self._again(child, exit_, decision.after_s, took, now)
        if isinstance(decision, GiveUp):
            child.take(ChildEvent.GIVE_UP, now)
            child.reason = said or decision.reason
            text = f"{child.name} failed: {child.reason}; `noyau restart {child.name}` tries again"
            told = Tell("actor.failed", child.name, text, took)
            return [Publish(child.name), told, *self._roll_on(now)]
        child.take(ChildEvent.STAY_STOPPED, now)
        child.reason = str(exit_)
        return [
            Publish(child.name), Tell("actor.stopped", child.name, text, took),
            *self._roll_on(now),
        ]  # fmt: skip

    def _again(
        self, child: Child, exit_: Exit, after_s: float, took: dict[str, float], now: float
    ) -> list[Effect]:
        child.restarts += 1
        text = f"{child.name} {exit_}"
        effects: list[Effect] = []
        if after_s <= 0:
            child.take(ChildEvent.AGAIN, now)
            effects.append(Tell("actor.died", child.name, f"{text}; restarting at once", took))
        else:
            child.take(ChildEvent.AGAIN_LATER, now)
            child.due_at = now + after_s
            child.reason = f"{exit_}; next try in {after_s:.1f} s"
            text = f"{child.name} {child.reason}"
            effects += [Publish(child.name), Tell("actor.died", child.name, text, took)]
        if self._settings.actors[child.name].strategy == "rest_for_one" and not exit_.collateral:
            effects += self._restart_dependants(child, now)
        return [*effects, *self._start_what_can(now)]

    def _restart_dependants(self, child: Child, now: float) -> list[Effect]:
        """Those that were started after it, as they need it, are started again after it."""
        effects: list[Effect] = []
        for name in dependants(child.name, self._needs):
            other = self.children[name]
            if other.serves:
                other.then = Then.AGAIN
                text = f"{name} is restarted with {child.name}, which it needs"
                effects += [
                    Tell("actor.restarting", name, text),
                    *ending.drain(other, self._settings, now),
                ]
        return effects

    def _stays_stopped(self, child: Child, took: dict[str, float] | None = None) -> list[Effect]:
        child.reason = f"drained by hand; `noyau restart {child.name}` starts it"
        text = f"{child.name} was drained, and stays stopped"
        return [Publish(child.name), Tell("actor.stopped", child.name, text, took or {})]

    # --- orders ---------------------------------------------------------------------------

    def restart(self, names: Sequence[str], now: float) -> list[Effect]:
        """Drain and start again; start what has failed. Several do so in turn, none before the
        last one is back; no names means all but those that were drained.

        Raises `NotFound`, or `InvalidRequest` while everything is being stopped.
        """
        children = [self.child(name) for name in names] or [
            child for child in self.children.values() if child.state is not ChildState.STOPPED
        ]
        self._refuse_while_stopping()
        for child in children:
            child.policy.forgive()
        if len(children) == 1:
            return self._restart(children[0], now)
        self._rolling.add(child.name for child in children)
        return self._roll_on(now)

    def _restart(self, child: Child, now: float) -> list[Effect]:
        if child.state in (ChildState.FAILED, ChildState.STOPPED):
            child.restarts += 1
            child.take(ChildEvent.AGAIN, now)
            child.reason = ""
            return [Publish(child.name), *self._start_what_can(now)]
        if child.state is ChildState.BACKOFF:
            child.take(ChildEvent.DUE, now)
            return self._start_what_can(now)
        if child.serves:
            child.then = Then.AGAIN
            return ending.drain(child, self._settings, now)
        if child.then is Then.STAY:
            # It is being drained, and somebody wants it after all.
            child.then = Then.DECIDE if child.state is ChildState.SPAWNING else Then.AGAIN
        return []

    def _roll_on(self, now: float) -> list[Effect]:
        """Whoever's turn it is in a rolling restart."""
        if self._stopping is not None or not self._rolling.under_way:
            return []
        lost = self._rolling.lost(self.children)
        if lost is not None:
            name, left = lost
            text = f"the rolling restart ends: {name} did not come back"
            if left:
                text += f"; left as they are: {', '.join(left)}"
            return [Tell("rolling.failed", name, text, {"left": left})]
        following = self._rolling.next(self.children)
        if following is not None:
            return self._restart(self.children[following], now)
        if not self._rolling.under_way:
            return [Tell("rolling.done", "supervisor", "the rolling restart is done")]
        return []

    def drain(self, name: str, now: float) -> list[Effect]:
        """Have it take nothing more, finish what it does, end, and stay stopped.

        Raises `NotFound`, or `InvalidRequest` while everything is being stopped.
        """
        child = self.child(name)
        self._refuse_while_stopping()
        if child.serves:
            child.then = Then.STAY
            return [
                Tell("actor.draining", name, f"{name} is drained by hand"),
                *ending.drain(child, self._settings, now),
            ]
        if child.state in (ChildState.SPAWNING, ChildState.STOPPING, ChildState.DEAD):
            # A process is on its way, or not quite gone.
            child.then = Then.STAY
            return []
        if child.state is ChildState.STOPPED:
            return []
        child.take(ChildEvent.STOP, now)
        return [*self._stays_stopped(child), *self._roll_on(now)]

    def _refuse_while_stopping(self) -> None:
        if self._stopping is not None:
            raise InvalidRequest("everything is being stopped")

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
                    effects += ending.drain(child, self._settings, now)
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
            case ChildState.SPAWNING if not self._spawner_killed:
                # Once, whoever else waits for it.
                self._spawner_killed = True
                return _SPAWNER_SILENT
            case _ if child.runs:
                return ending.out_of_time(child, now)
        return []
