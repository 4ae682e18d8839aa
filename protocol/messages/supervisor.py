"""Messages to the supervisor: what actors report, what clients ask, what operators order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field

from protocol.errors import NoyauError
from protocol.lifecycle import ActorState, Health, Profile
from protocol.messages.actor import Counters
from protocol.messages.base import Ask, Empty, Event, Message, Role, Stream


class Activity(Message):
    """What an actor says it is doing, in words and, where it can be counted, in numbers."""

    what: str = "idle"
    done: int = 0
    total: int = 0
    unit: str = ""


class Heartbeat(Event, operation="supervisor.heartbeat", role=Role.INTERNAL):
    """An actor's sign of life, sent at every interval and at once when its state changes."""

    state: ActorState
    counters: Counters = Counters()
    activity: Activity = Activity()
    reason: str = ""
    """Why it cannot go on, where it cannot."""
    info: dict[str, Any] = Field(default_factory=dict)
    """What the actor wants its callers to know of it: model, slots …"""
    unanswered: dict[str, int] = Field(default_factory=dict)
    """Of what it asked others: requests without an end in their time, by the other's epoch."""


class DirectoryEntry(Message):
    """Where an actor is, which incarnation, and how it does."""

    name: str
    epoch: str = ""
    """Empty while no process runs."""
    endpoint: str = ""
    state: ActorState
    health: Health = Health.HEALTHY
    """Who has the choice asks one that is not unhealthy."""
    reason: str = ""
    info: dict[str, Any] = Field(default_factory=dict)


class DirectoryChange(Message):
    """The entries that changed since the last one; the first holds them all."""

    entries: list[DirectoryEntry]


class WatchDirectory(
    Stream[DirectoryChange, Empty], operation="supervisor.directory", role=Role.OBSERVE
):
    """Where every actor is, now and at each change. Coalesced, never lossy: the last state wins."""


class ActorStatus(Message):
    """One actor, for people and programs that watch."""

    name: str
    pid: int | None
    epoch: str
    state: ActorState
    health: Health
    reason: str
    restarts: int
    last_exit: str
    uptime_s: float | None
    cpu_percent: float | None
    """Of one core, since the last time that anybody asked; at first, since its start."""
    rss_bytes: int | None
    threads: int | None = None
    open_files: int | None = None
    """Files, sockets, pipes … that it has open."""
    activity: Activity
    counters: Counters
    info: dict[str, Any]


class ProcessStatus(Message):
    """The supervisor, its spawner or its guard."""

    pid: int | None
    restarts: int = 0
    uptime_s: float = 0.0
    cpu_percent: float | None = None
    """These four as in `ActorStatus`; None where there is no process."""
    rss_bytes: int | None = None
    threads: int | None = None
    open_files: int | None = None


class Status(Message):
    """The whole system."""

    health: Health
    reason: str
    version: str
    boot: str
    run_folder: str
    data_folder: str
    profile: Profile
    """The device profile."""
    supervisor: ProcessStatus
    spawner: ProcessStatus
    guard: ProcessStatus
    actors: list[ActorStatus]
    strangers: int = 0
    """Frames and requests that the supervisor itself refused."""


class GetStatus(Ask[Status], operation="supervisor.status", role=Role.OBSERVE):
    """How is everything?"""

    idempotent = True


class Restarted(Message):
    """The order was taken; the directory tells when each actor is ready again."""

    previous: dict[str, str]
    """The epoch that each had until now; empty for one without a process."""


class Restart(Ask[Restarted], operation="supervisor.restart", role=Role.OPERATE):
    """Drain and start again, also what has `failed`. One actor at once; several in turn, each when
    the one before is back (``rolling.done`` and ``rolling.failed`` tell the end)."""

    names: list[str] = Field(default_factory=list, max_length=1000)
    """None means all but those that were drained."""


class Drain(Ask[Empty], operation="supervisor.drain", role=Role.OPERATE):
    """Have one actor take nothing more, finish what it does, end, and stay stopped."""

    name: str


class Reloaded(Message):
    """What became of the settings that differ from before."""

    now: list[str] = Field(default_factory=list)
    """Are in force."""
    at_restart: dict[str, list[str]] = Field(default_factory=dict)
    """By actor: are in force when it is next started, as by `Restart`."""
    at_start: list[str] = Field(default_factory=list)
    """Take a start of noyau."""


class Reload(Ask[Reloaded], operation="supervisor.reload", role=Role.OPERATE):
    """Read the settings again, from where they came. When anything in them is wrong, the old ones
    stay, and the error lists all that is."""

    idempotent = True


class Injected(Message):
    """The fault is done, or will be in a moment where it hits the supervisor itself."""

    pid: int
    epoch: str = ""
    """Of the actor's process; empty for the spawner, the supervisor and the guard."""
    noticed_within_s: float | None = None
    """After so long the supervisor surely knows, by the settings; None where nothing tells it."""


class Inject(Ask[Injected], operation="supervisor.inject", role=Role.OPERATE):
    """Do something to a process on purpose, where the settings allow it (``chaos.allowed``)::

        kill        SIGKILL
        stop        SIGSTOP
        slow_start  the next process of this actor begins ``seconds`` late

    ``target`` is an actor; for the first two also ``spawner``, ``supervisor`` or ``guard``.
    """

    fault: Literal["kill", "stop", "slow_start"]
    target: str
    seconds: float = Field(default=2.0, ge=0, le=600, allow_inf_nan=False)


class Shutdown(Ask[Empty], operation="supervisor.shutdown", role=Role.OPERATE):
    """Stop everything, in order. Answered when the stopping has begun."""

    idempotent = True


class Happened(Event, operation="supervisor.happened", role=Role.INTERNAL):
    """Something that others may want to know: sent by actors, fanned out by the supervisor."""

    what: str
    """A dotted name: ``asset.progress``, ``actor.died`` …"""
    actor: str = ""
    text: str = ""
    """For people."""
    data: dict[str, Any] = Field(default_factory=dict)


class Stalled(Event, operation="supervisor.stalled", role=Role.INTERNAL):
    """An actor gave another up, as that did not get on with what it was asked. The supervisor takes
    it for hung sooner from then on, if it does not let go of that work either."""

    name: str
    epoch: str
    reason: str


class Events(Message):
    """Events in the order they came."""

    events: list[Happened]
    dropped: int = 0
    """How many this subscriber was too slow for, since the last chunk."""


class WatchEvents(Stream[Events, Empty], operation="supervisor.events", role=Role.OBSERVE):
    """Everything that happens from now on whose name starts with ``prefix``.

    The first chunk comes at once and has no events: whatever happens after it came is told.
    Whoever begins something at once, without waiting for it, may begin before it is watched.
    """

    needs_received = False
    prefix: str = ""

    def resume_from(self, received: Sequence[Events], loss: NoyauError, gap_ms: float) -> Self:
        """The same again. What happened in between is in the logs only."""
        del received, loss, gap_ms
        return self
