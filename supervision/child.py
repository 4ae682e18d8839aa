"""One supervised actor: its states as a table, and what is remembered of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from configs.sections import HealthSettings
from protocol.lifecycle import ActorState, TransitionTable
from protocol.messages.actor import Counters
from protocol.messages.supervisor import Activity, Heartbeat
from supervision.failures import Failures
from supervision.ladder import Ladder
from supervision.restart import Exit, RestartPolicy


class ChildState(StrEnum):
    """Where a child stands in the supervisor's eyes."""

    WAITING = "waiting"
    """For what it needs."""
    BACKOFF = "backoff"
    """For its next try."""
    SPAWNING = "spawning"
    """The spawner was asked for its process."""
    STARTING = "starting"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    """It runs, and says that this machine lacks what it needs."""
    STOPPING = "stopping"
    """It was told to drain and end."""
    DEAD = "dead"
    """Its process is gone; how it ended is about to be learnt."""
    STOPPED = "stopped"
    FAILED = "failed"


class ChildEvent(StrEnum):
    """What happens to a child."""

    SPAWN = "spawn"
    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn failed"
    SPAWNER_LOST = "spawner lost"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    STOP = "stop"
    DIED = "died"
    AGAIN = "again"
    AGAIN_LATER = "again later"
    STAY_STOPPED = "stay stopped"
    GIVE_UP = "give up"
    DUE = "due"


_S, _E = ChildState, ChildEvent

CHILD: TransitionTable[ChildState, ChildEvent] = TransitionTable(
    "child",
    {
        (_S.WAITING, _E.SPAWN): _S.SPAWNING,
        (_S.WAITING, _E.STOP): _S.STOPPED,
        (_S.BACKOFF, _E.DUE): _S.WAITING,
        (_S.BACKOFF, _E.STOP): _S.STOPPED,
        (_S.SPAWNING, _E.SPAWNED): _S.STARTING,
        (_S.SPAWNING, _E.SPAWN_FAILED): _S.DEAD,
        (_S.SPAWNING, _E.SPAWNER_LOST): _S.WAITING,
        (_S.SPAWNING, _E.STOP): _S.STOPPED,
        (_S.STARTING, _E.READY): _S.READY,
        (_S.STARTING, _E.UNAVAILABLE): _S.UNAVAILABLE,
        (_S.STARTING, _E.STOP): _S.STOPPING,
        (_S.STARTING, _E.DIED): _S.DEAD,
        (_S.READY, _E.STOP): _S.STOPPING,
        (_S.READY, _E.DIED): _S.DEAD,
        (_S.UNAVAILABLE, _E.STOP): _S.STOPPING,
        (_S.UNAVAILABLE, _E.DIED): _S.DEAD,
        (_S.STOPPING, _E.DIED): _S.DEAD,
        (_S.DEAD, _E.AGAIN): _S.WAITING,
        (_S.DEAD, _E.AGAIN_LATER): _S.BACKOFF,
        (_S.DEAD, _E.STAY_STOPPED): _S.STOPPED,
        (_S.DEAD, _E.GIVE_UP): _S.FAILED,
        (_S.STOPPED, _E.AGAIN): _S.WAITING,
        (_S.FAILED, _E.AGAIN): _S.WAITING,
        (_S.FAILED, _E.STOP): _S.STOPPED,
        (_S.STOPPED, _E.STOP): _S.STOPPED,
    },
)

_PUBLIC = {
    ChildState.WAITING: ActorState.WAITING,
    ChildState.BACKOFF: ActorState.WAITING,
    ChildState.SPAWNING: ActorState.WAITING,
    ChildState.STARTING: ActorState.STARTING,
    ChildState.READY: ActorState.READY,
    ChildState.UNAVAILABLE: ActorState.UNAVAILABLE,
    ChildState.STOPPING: ActorState.DRAINING,
    ChildState.DEAD: ActorState.WAITING,
    ChildState.STOPPED: ActorState.STOPPED,
    ChildState.FAILED: ActorState.FAILED,
}


class Then(StrEnum):
    """What follows when a child has ended."""

    DECIDE = "decide"
    """What its restart policy says."""
    AGAIN = "again"
    """It is started again, whatever that says: a restart by hand, or with the one it needs."""
    STAY = "stay"
    """It stays stopped: it was drained by hand."""


@dataclass(slots=True)
class Child:
    """What the supervisor knows of one actor. Times are monotonic seconds."""

    name: str
    needs: list[str]
    policy: RestartPolicy
    state: ChildState = ChildState.WAITING
    epoch: str = ""
    """Of the process that runs or is being spawned; empty when there is none."""
    pid: int | None = None
    since: float = 0.0
    """When the present state began."""
    ready_at: float | None = None
    """When it had come as far as it can on this machine."""
    spawned_at: float | None = None
    heard_at: float | None = None
    """The last heartbeat of this incarnation."""
    due_at: float | None = None
    """When the present state is to be looked at again: a retry, a time-out."""
    restarts: int = 0
    last_exit: str = ""
    reason: str = ""
    then: Then = Then.DECIDE
    """After the end of this incarnation."""
    early: Heartbeat | None = None
    """What this incarnation said before the spawner told of it."""
    ladder: Ladder = field(default_factory=Ladder)
    """What was done to end this incarnation."""
    hung: tuple[str, float] | None = None
    """How it was found to hang, and when last; None when it never was."""
    ended_for: str = ""
    """Why the supervisor ends this incarnation, where it does so for its own good."""
    unexplained: Exit | None = None
    """How it ended, while its own word on why is still waited for."""
    unanswered: dict[str, int] = field(default_factory=dict)
    """What it said of the requests that others did not answer it."""
    failures: Failures | None = None
    """Of this incarnation."""
    activity: Activity = field(default_factory=Activity)
    counters: Counters = field(default_factory=Counters)
    info: dict[str, Any] = field(default_factory=dict)

    def take(self, event: ChildEvent, now: float) -> None:
        """Go on by one event. Raises `IllegalTransition`."""
        self.state = CHILD.next(self.state, event)
        self.since = now
        self.due_at = None

    def begin(self, epoch: str, settings: HealthSettings, now: float) -> None:
        """Its next incarnation is ordered: nothing of the one before is held against it."""
        self.take(ChildEvent.SPAWN, now)
        self.epoch = epoch
        self.pid = self.ready_at = self.heard_at = self.hung = self.early = None
        self.activity, self.counters, self.unanswered = Activity(), Counters(), {}
        self.info = {}
        self.failures, self.ladder = Failures(settings), Ladder()
        self.ended_for, self.then = "", Then.DECIDE

    @property
    def public_state(self) -> ActorState:
        """The state as others see it."""
        return _PUBLIC[self.state]

    @property
    def alive(self) -> bool:
        """Whether it has a process, or is about to."""
        return self.state is ChildState.SPAWNING or self.runs

    @property
    def runs(self) -> bool:
        """Whether it has a process."""
        return self.serves or self.state is ChildState.STOPPING

    @property
    def serves(self) -> bool:
        """Whether it has a process that has not been told to stop."""
        return self.state in (ChildState.STARTING, ChildState.READY, ChildState.UNAVAILABLE)
