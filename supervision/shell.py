"""The shell around the plan: events in, effects done. Lives on one event loop.

Events come in (a heartbeat, a pidfd that became readable, an order), `supervision.plan.Plan`
decides, and the effects are done here. Nothing here waits for a child.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from configs import Settings
from configs.reloading import Changes
from protocol.clock import MonotonicClock
from protocol.endpoints import endpoint
from protocol.errors import InternalError
from protocol.messages.supervisor import (
    DirectoryEntry,
    Happened,
    Heartbeat,
    ProcessStatus,
    Stalled,
    Status,
)
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
from supervision.forking import StartedProcess
from supervision.guarded import GuardKeeper, Lineage
from supervision.hangs import Hung
from supervision.health import HealthBoard
from supervision.incarnations import IncarnationEvents, Incarnations, key_of, name_and_epoch
from supervision.injecting import Injector, Own, signal_myself_soon
from supervision.lookout import Lookout, LookoutEvents
from supervision.notify import Notifier, Service
from supervision.output import LineFile, Outputs
from supervision.plan import Plan
from supervision.reporting import Reporter
from supervision.restart import Exit
from supervision.restarts import RestartsFile, inherited
from supervision.runfolder import RunFolder
from supervision.spawner import Spawner, SpawnerEvents
from supervision.spawners import SpawnerKeeper, SpawnerKeeperEvents
from supervision.watchers import Watchers

SHOWN = (
    "actor.died", "actor.failed", "actor.hung", "actor.killed", "actor.stalled", "actor.too_large",
    "spawner.died", "spawner.silent", "spawner.stopped", "guard.died", "guard.failed",
    "guard.stopped",
)  # fmt: skip
"""Events that whoever sits at the terminal wants to see."""

SPAWNER = "spawner"
GUARD = "guard"

log = structlog.get_logger("supervisor")


class SpawnerFailed(InternalError):
    """The spawner died too often: no process can be started any more."""


class Shell:
    """All that one supervisor runs and watches."""

    def __init__(
        self, settings: Settings, run_folder: RunFolder, lineage: Lineage, *, boot: str,
        secret: bytes, open_output: Callable[[str], LineFile], service: Service | None = None,
    ) -> None:  # fmt: skip
        """``secret``: by which actors prove who they are. ``open_output``: gives the file for what
        an actor prints. ``service``: the service manager, where there is one to be told."""
        self._settings = settings
        self._run_folder = run_folder
        self._lineage = lineage
        self._loop = asyncio.get_running_loop()
        self.clock = MonotonicClock()
        self._began = self.clock.now()
        self._restarts = RestartsFile(run_folder.folder)
        counts = inherited(self._restarts.read(), [*settings.actors, SPAWNER], lineage.restarts)
        self.plan = Plan(settings, boot, counts)
        self._alarm: asyncio.TimerHandle | None = None
        self._done = asyncio.Event()
        self._failure: SpawnerFailed | None = None
        self._reporter = Reporter(settings, boot, str(run_folder.folder))
        self.watchers = Watchers(self._entry)
        self._health = HealthBoard()
        self._notifier = Notifier(service)
        self._lookout = Lookout(
            settings.hang, run_folder.folder, self._now, self._running, self._others,
            LookoutEvents(
                hangs=self._on_hang, has_memory=self._on_memory, beats=self.plan.beats,
                stopped=self._on_stopped, held_up=self._on_held_up,
                looked=self._tell_health,
            ),
        )  # fmt: skip
        self._spawner = Spawner(
            SpawnerEvents(
                ready=self._on_spawner_ready,
                spawned=lambda made: self._incarnations.take(made),
                failed=self._on_spawn_failed,
                ended=self._on_ended,
                preloaded=self._on_preloaded,
                died=lambda: self._keeper.on_died(),
            )
        )
        self._keeper = SpawnerKeeper(
            self._spawner, settings.restart, counts[SPAWNER], self._now, self._not_the_spawners,
            SpawnerKeeperEvents(
                started=lambda: self.do(self.plan.spawner_started(self._now())),
                lost=lambda: self.do(self.plan.spawner_lost(self._now())),
                failed=self._on_spawner_failed,
            ),
        )  # fmt: skip
        self._outputs = Outputs(open_output)
        self._incarnations = Incarnations(
            self._spawner, secret, self._outputs,
            IncarnationEvents(spawned=self._on_spawned, died=self._on_died),
        )  # fmt: skip
        self._guard = GuardKeeper(
            lineage, settings.restart, self._now,
            lambda what, text: self.tell(Happened(what=what, actor=GUARD, text=text)),
        )  # fmt: skip

        self.injector = Injector(
            settings, self.plan.children, self._incarnations,
            {
                SPAWNER: Own(lambda: self._spawner.pid, self._spawner.signal),
                "supervisor": signal_myself_soon(self._loop.call_later),
                "guard": Own(lambda: self._guard.pid, self._guard.signal),
            },
        )  # fmt: skip

    def _now(self) -> float:
        return self.clock.now()

    def start(self, first_spawner: StartedProcess | None = None) -> None:
        """Bring everything up."""
        self._keeper.start(first_spawner)
        self._guard.start()
        self._notifier.start()
        self._lookout.start()

    async def ended(self) -> None:
        """Return when everything was told to stop and has stopped. Raises `SpawnerFailed`."""
        await self._done.wait()
        self._keeper.close()
        await self._spawner.close()
        if self._failure is not None:
            raise self._failure

    def forget(self) -> None:
        """It ends as it was told to: the next start counts from nothing."""
        self._restarts.remove()

    def close(self, code: int) -> None:
        """Look no more, and tell the guard the exit code of this process."""
        self._lookout.stop()
        self._outputs.close()
        self._notifier.stop()
        self._guard.stop(code)

    def stop(self) -> None:
        """Stop everything, in order."""
        self.do(self.plan.stop(self._now()))

    def reload(self, found: Changes) -> None:
        """Decide by these settings from now on."""
        settings = found.settings
        self._settings = settings
        self.plan.reload(settings)
        self._lookout.reload(settings.hang)
        self._reporter.reload(settings)
        self._keeper.reload(settings.restart)
        self._guard.reload(settings.restart)

    def heartbeat(self, name: str, epoch: str, message: Heartbeat) -> None:
        """An actor's sign of life."""
        # Most say nothing new, and there are many of them.
        if effects := self.plan.heartbeat(name, epoch, message, self._now()):
            self.do(effects)

    def stalled(self, asked_by: str, message: Stalled) -> None:
        """An actor gave another one up, which is judged by it from now on."""
        self._lookout.suspect(key_of(message.name, message.epoch))
        text = f"{message.name} was given up by {asked_by}: {message.reason}"
        self.tell(Happened(what="actor.stalled", actor=message.name, text=text))

    def status(self, strangers: int) -> Status:
        """How everything does now. ``strangers``: what the supervisor itself refused."""
        now = self._now()
        return self._reporter.status(
            now, self.plan.children,
            supervisor=ProcessStatus(
                pid=os.getpid(), restarts=self._lineage.restarts, uptime_s=now - self._began
            ),
            spawner=ProcessStatus(
                pid=self._spawner.pid, restarts=self._keeper.restarts,
                uptime_s=now - self._keeper.since,
            ),
            guard=ProcessStatus(
                pid=self._guard.pid, restarts=self._guard.restarts,
                uptime_s=now - self._guard.since,
            ),
            strangers=strangers,
        )  # fmt: skip

    # --- effects --------------------------------------------------------------------------

    def do(self, effects: Sequence[Effect]) -> None:
        """Do what was decided."""
        for effect in effects:
            match effect:
                case Spawn(name, epoch):
                    self._incarnations.spawn(self._settings, name, epoch)
                case Signal(name, epoch, number):
                    self._incarnations.signal(name, epoch, number)
                case Publish(name):
                    self.watchers.changed(name)
                case Forget(name, epoch):
                    self._run_folder.forget(name, epoch)
                case Tell(what, name, text, data):
                    self.tell(Happened(what=what, actor=name, text=text, data=dict(data)))
                case ReplaceSpawner():
                    self._spawner.kill()
                case AllStopped():
                    self._done.set()
        if self.plan.stopping:
            self._notifier.stopping()
        self._set_alarm()
        self._remember_restarts()

    def _remember_restarts(self) -> None:
        counts = {name: child.restarts for name, child in self.plan.children.items()}
        try:
            self._restarts.write(counts | {SPAWNER: self._keeper.restarts})
        except OSError as error:
            log.warning("restarts_not_written", error=str(error))

    def _set_alarm(self) -> None:
        """Wake when the plan next has something to do by itself."""
        at = self.plan.next_at()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if at is not None:
            self._alarm = self._loop.call_later(
                max(0.0, at - self._now()), lambda: self.do(self.plan.tick(self._now()))
            )

    def _entry(self, name: str) -> DirectoryEntry:
        entry = self.plan.entry(name)
        known: dict[str, Any] = {"health": self._health.of(name)}
        if entry.epoch:
            known["endpoint"] = endpoint(self._run_folder.folder, name, entry.epoch)
        return entry.model_copy(update=known)

    def tell(self, event: Happened) -> None:
        """Tell the log, the terminal and all who watch."""
        # Progress is for who watches; a log of every MiB of a download helps nobody.
        if not event.what.endswith(".progress"):
            log.info(event.what, subject=event.actor, text=event.text, data=event.data)
        if event.what in SHOWN or (
            event.what == "actor.ready" and self.plan.restarted(event.actor)
        ):
            # The terminal may be gone, as after the end of the guard that was started in it; what
            # follows from the event must not depend on that.
            with contextlib.suppress(OSError):
                sys.stderr.write(f"noyau: {event.text}\n")
        self.watchers.happened(event)

    # --- what the spawner and the kernel say ------------------------------------------------

    def _on_spawner_ready(self) -> None:
        self.do(self.plan.spawner_ready(self._now()))
        entries = self._settings.actors.values()
        self._spawner.preload(entry.class_path for entry in entries if entry.preload)

    def _on_preloaded(self, class_path: str, problem: str) -> None:
        if problem:
            log.warning("not_preloaded", class_path=class_path, problem=problem)
        else:
            log.info("preloaded", class_path=class_path)

    def _on_spawned(self, name: str, epoch: str, pid: int) -> None:
        self.do(self.plan.spawned(name, epoch, pid, self._now()))

    def _on_died(self, name: str, epoch: str) -> None:
        self.do(self.plan.died(name, epoch, self._now()))

    def _on_spawn_failed(self, key: str, reason: str) -> None:
        name, epoch = name_and_epoch(key)
        self.do(self.plan.spawn_failed(name, epoch, reason, self._now()))

    def _on_ended(self, key: str, status: int, swept: int) -> None:
        name, epoch = name_and_epoch(key)
        # The spawner's word may be read before the kernel's, and last words stand before both.
        self._outputs.died(name, epoch)
        if swept:
            log.info("descendants_killed", subject=name, epoch=epoch, count=swept)
        self.do(self.plan.ended(name, epoch, Exit.from_status(status), self._now()))

    def _not_the_spawners(self) -> list[int]:
        return [self._guard.pid] if self._guard.pid is not None else []

    def _on_spawner_failed(self, reason: str) -> None:
        # Without a spawner there is nothing to supervise. The guard, or systemd, tries again with
        # a new supervisor, and gives up in its turn.
        self._failure = SpawnerFailed(f"the spawner is given up: {reason}")
        self._done.set()

    # --- what is seen of processes --------------------------------------------------------

    def _running(self) -> list[tuple[str, int]]:
        return [
            (key_of(name, child.epoch), child.pid)
            for name, child in self.plan.children.items()
            if child.runs and child.pid is not None
        ]

    def _others(self) -> list[tuple[str, int]]:
        named = ((SPAWNER, self._spawner.pid), (GUARD, self._guard.pid))
        return [(name, pid) for name, pid in named if pid is not None]

    def _on_stopped(self, name: str) -> None:
        if name == GUARD:
            self._guard.on_stopped()
        else:
            self.do(self.plan.spawner_stopped())

    def _on_held_up(self, name: str, for_s: float) -> None:
        if name == SPAWNER:
            self.plan.spawner_held_up(for_s)

    def _on_hang(self, name: str, epoch: str, hung: Hung) -> None:
        self.do(self.plan.hung(name, epoch, hung, self._now()))

    def _on_memory(self, name: str, epoch: str, rss_bytes: int) -> None:
        if effects := self.plan.has_memory(name, epoch, rss_bytes, self._now()):
            self.do(effects)

    def _tell_health(self) -> None:
        """Tell everybody of each actor whose health is another one now."""
        now, children = self._now(), self.plan.children
        if not self._health.is_due(now, len(children)):
            return
        verdicts = self._reporter.verdicts(now, children)
        self._notifier.look(now, children, verdicts)
        for name, was in self._health.changes(verdicts):
            self.watchers.changed(name)
            health, reason = verdicts[name].health.value, verdicts[name].reason
            text = f"{name} is {health}{f': {reason}' if reason else ''}"
            data = {"health": health, "was": was.value}
            self.tell(Happened(what="health.changed", actor=name, text=text, data=data))
