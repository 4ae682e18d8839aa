"""The supervisor: what a user starts. A thin shell around ``supervision/``.

::

    python supervisor.py [--config FILE] [--set NAME=VALUE …] [--no-guard]

      guard ── supervisor ── spawner ── storage, cpu_engine, orchestrator …

Events come in (a heartbeat, a pidfd that became readable, an order), `supervision.plan.Plan`
decides, and the effects are done here. Nothing here waits for a child, and no actor is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import structlog

from actors.kernel.handlers import handles
from actors.kernel.logs import RotatingFile, log_to
from actors.kernel.request import Request
from actors.kernel.serving import Server
from configs import DeviceSettings, Settings, load_settings, prepare_run_folder
from configs.machine import this_machine
from configs.profiles import at_start
from configs.reloading import changes
from protocol.clock import MonotonicClock
from protocol.codec import Codec
from protocol.endpoints import endpoint
from protocol.errors import InternalError, NotAllowed, NoyauError, SetupError
from protocol.messages.actor import Ping, Pong
from protocol.messages.base import Empty
from protocol.messages.supervisor import (
    DirectoryChange,
    DirectoryEntry,
    Drain,
    Events,
    GetStatus,
    Happened,
    Heartbeat,
    Inject,
    Injected,
    ProcessStatus,
    Reload,
    Reloaded,
    Restart,
    Restarted,
    Shutdown,
    Status,
    WatchDirectory,
    WatchEvents,
)
from protocol.transport import ZmqTransport
from supervision.arguments import lineage, parse_arguments
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
from supervision.incarnations import (
    IncarnationEvents,
    Incarnations,
    key_of,
    name_and_epoch,
)
from supervision.injecting import Injector, Own, signal_myself_soon
from supervision.lookout import Lookout, LookoutEvents
from supervision.notify import Notifier, Service, take_service
from supervision.output import Outputs
from supervision.plan import Plan
from supervision.processes import become_subreaper, set_name
from supervision.reporting import Reporter
from supervision.restart import Again, Exit, GiveUp, RestartPolicy
from supervision.restarts import RestartsFile, inherited
from supervision.runfolder import RunFolder
from supervision.spawner import (
    SpawnedProcess,
    Spawner,
    SpawnerEvents,
    fork_spawner,
)
from supervision.sweeping import sweep
from supervision.watchers import Watchers

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_SETUP = 78
"""EX_CONFIG of sysexits.h: the settings or the run folder do not allow a start."""

SHOWN = (
    "actor.died", "actor.failed", "actor.hung", "actor.killed", "actor.too_large",
    "spawner.died", "spawner.silent", "spawner.stopped", "guard.died", "guard.failed",
    "guard.stopped",
)  # fmt: skip
"""Events that whoever sits at the terminal wants to see."""

SPAWNER = "spawner"
GUARD = "guard"

JUDGE_S_PER_ACTOR = 0.0025
"""With few actors their health is judged at every look; 200 of them take a millisecond each time,
and are judged twice a second."""

log = structlog.get_logger("supervisor")


class SpawnerFailed(InternalError):
    """The spawner died too often: no process can be started any more."""


class Supervisor:
    """Does what the plan decides, and answers those who ask. Lives on one event loop."""

    def __init__(
        self, load: Callable[[], Settings], settings: Settings, run_folder: RunFolder,
        lineage: Lineage, service: Service | None = None,
    ) -> None:  # fmt: skip
        """``load`` reads the settings again, from where ``settings`` came."""
        self._load = load
        self._settings = settings
        self._run_folder = run_folder
        self._lineage = lineage
        self._boot = secrets.token_hex(4)
        secret = secrets.token_bytes(32)
        self._loop = asyncio.get_running_loop()
        self._clock = MonotonicClock()
        self._began = self._clock.now()
        self._restarts = RestartsFile(run_folder.folder)
        counts = inherited(self._restarts.read(), [*settings.actors, SPAWNER], lineage.restarts)
        self._plan = Plan(settings, self._boot, counts)
        self._alarm: asyncio.TimerHandle | None = None
        self._done = asyncio.Event()
        self._failure: SpawnerFailed | None = None
        self._reporter = Reporter(settings, self._boot, str(run_folder.folder))
        self._watchers = Watchers(self._entry)
        self._health = HealthBoard()
        self._judge_at = 0.0
        self._notifier = Notifier(service)
        self._lookout = Lookout(
            settings.hang, run_folder.folder, self._now, self._running, self._others,
            LookoutEvents(
                hangs=self._on_hang, has_memory=self._on_memory, beats=self._plan.beats,
                stopped=self._on_stopped,
                looked=self._tell_health,
            ),
        )  # fmt: skip
        self._spawner_restarts = counts[SPAWNER]
        self._spawner_policy = RestartPolicy(settings.restart, "permanent")
        self._spawner_since = self._began
        self._replacing: asyncio.Task[None] | None = None
        self._spawner = Spawner(
            SpawnerEvents(
                ready=self._on_spawner_ready,
                spawned=self._on_process,
                failed=self._on_spawn_failed,
                ended=self._on_ended,
                preloaded=self._on_preloaded,
                died=self._on_spawner_died,
            )
        )
        self._outputs = Outputs(
            lambda name: RotatingFile(settings.data.output_path(name), settings.logs)
        )
        self._incarnations = Incarnations(
            self._spawner, secret, self._outputs,
            IncarnationEvents(spawned=self._on_spawned, died=self._on_died),
        )  # fmt: skip
        self._server = Server(
            self, name="supervisor", epoch=self._boot, secret=secret, clock=self._clock,
            codec=Codec(settings.limits.max_frame_bytes),
            max_open_per_peer=settings.limits.max_open_conversations_per_peer,
        )  # fmt: skip

        self._guard = GuardKeeper(
            lineage, RestartPolicy(settings.restart, "permanent"), self._now,
            lambda what, text: self._tell(Happened(what=what, actor=GUARD, text=text)),
        )  # fmt: skip

        self._injector = Injector(
            settings, self._plan.children, self._incarnations,
            {
                SPAWNER: Own(lambda: self._spawner.pid, self._spawner.signal),
                "supervisor": signal_myself_soon(self._loop.call_later),
                "guard": Own(lambda: self._guard.pid, self._guard.signal),
            },
        )  # fmt: skip

    def _now(self) -> float:
        return self._clock.now()

    async def run(self, first_spawner: StartedProcess | None = None) -> None:
        """Run until everything has been told to stop and has stopped."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, lambda: self._do(self._plan.stop(self._now())))
        if self._lineage.guard:
            # The guard passes on a terminal's. The kernel's own, to a group that loses its parent
            # while one of it is stopped, means no harm: another guard follows.
            self._loop.add_signal_handler(signal.SIGHUP, log.info, "hung_up_on")
        transport = ZmqTransport()
        address = endpoint(self._run_folder.folder, "supervisor")
        self._server.attach(transport.listen(address, self._server.on_frame))
        self._start_spawner(first_spawner)
        self._guard.start()
        self._notifier.start()
        self._lookout.start()
        log.info("started", boot=self._boot, run_folder=str(self._run_folder.folder))
        try:
            await self._done.wait()
            await self._spawner.close()
            if self._failure is not None:
                raise self._failure
            await self._server.stop()
            self._restarts.remove()
        finally:
            self._lookout.stop()
            self._outputs.close()
            self._notifier.stop()
            self._guard.stop(EXIT_FAILED if self._failure is not None else EXIT_OK)
            transport.close()
        log.info("stopped")

    def _start_spawner(self, started: StartedProcess | None = None) -> None:
        self._spawner.start(started)
        self._do(self._plan.spawner_started(self._now()))

    # --- effects --------------------------------------------------------------------------

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Spawn(name, epoch):
                    self._incarnations.spawn(self._settings, name, epoch)
                case Signal(name, epoch, number):
                    self._incarnations.signal(name, epoch, number)
                case Publish(name):
                    self._watchers.changed(name)
                case Forget(name, epoch):
                    self._run_folder.forget(name, epoch)
                case Tell(what, name, text, data):
                    self._tell(Happened(what=what, actor=name, text=text, data=dict(data)))
                case ReplaceSpawner():
                    self._spawner.kill()
                case AllStopped():
                    self._done.set()
        if self._plan.stopping:
            self._notifier.stopping()
        self._set_alarm()
        self._remember_restarts()

    def _remember_restarts(self) -> None:
        counts = {name: child.restarts for name, child in self._plan.children.items()}
        try:
            self._restarts.write(counts | {SPAWNER: self._spawner_restarts})
        except OSError as error:
            log.warning("restarts_not_written", error=str(error))

    def _set_alarm(self) -> None:
        """Wake when the plan next has something to do by itself."""
        at = self._plan.next_at()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if at is not None:
            self._alarm = self._loop.call_later(
                max(0.0, at - self._now()), lambda: self._do(self._plan.tick(self._now()))
            )

    def _entry(self, name: str) -> DirectoryEntry:
        entry = self._plan.entry(name)
        known: dict[str, Any] = {"health": self._health.of(name)}
        if entry.epoch:
            known["endpoint"] = endpoint(self._run_folder.folder, name, entry.epoch)
        return entry.model_copy(update=known)

    def _tell(self, event: Happened) -> None:
        # Progress is for who watches; a log of every MiB of a download helps nobody.
        if not event.what.endswith(".progress"):
            log.info(event.what, subject=event.actor, text=event.text, data=event.data)
        if event.what in SHOWN or (
            event.what == "actor.ready" and self._plan.restarted(event.actor)
        ):
            # The terminal may be gone, as after the end of the guard that was started in it; what
            # follows from the event must not depend on that.
            with contextlib.suppress(OSError):
                sys.stderr.write(f"noyau: {event.text}\n")
        self._watchers.happened(event)

    # --- what the spawner and the kernel say ------------------------------------------------

    def _on_spawner_ready(self) -> None:
        self._do(self._plan.spawner_ready(self._now()))
        entries = self._settings.actors.values()
        self._spawner.preload(entry.class_path for entry in entries if entry.preload)

    def _on_preloaded(self, class_path: str, problem: str) -> None:
        if problem:
            log.warning("not_preloaded", class_path=class_path, problem=problem)
        else:
            log.info("preloaded", class_path=class_path)

    def _on_process(self, made: SpawnedProcess) -> None:
        self._incarnations.take(made)

    def _on_spawned(self, name: str, epoch: str, pid: int) -> None:
        self._do(self._plan.spawned(name, epoch, pid, self._now()))

    def _on_died(self, name: str, epoch: str) -> None:
        self._do(self._plan.died(name, epoch, self._now()))

    def _on_spawn_failed(self, key: str, reason: str) -> None:
        name, epoch = name_and_epoch(key)
        self._do(self._plan.spawn_failed(name, epoch, reason, self._now()))

    def _on_ended(self, key: str, status: int, swept: int) -> None:
        name, epoch = name_and_epoch(key)
        # The spawner's word may be read before the kernel's, and last words stand before both.
        self._outputs.died(name, epoch)
        if swept:
            log.info("descendants_killed", subject=name, epoch=epoch, count=swept)
        self._do(self._plan.ended(name, epoch, Exit.from_status(status), self._now()))

    def _on_spawner_died(self) -> None:
        if self._done.is_set():
            return
        now = self._now()
        lived = now - self._spawner_since
        self._spawner_restarts += 1
        self._spawner_since = now
        self._do(self._plan.spawner_lost(now))
        match self._spawner_policy.decide(now, Exit(), lived):
            case Again(after_s):
                self._replacing = self._loop.create_task(self._replace_spawner(after_s))
            case GiveUp() as verdict:
                # Without a spawner there is nothing to supervise. The guard, or systemd, tries
                # again with a new supervisor, and gives up in its turn.
                self._failure = SpawnerFailed(f"the spawner is given up: {verdict.reason}")
                self._done.set()

    async def _replace_spawner(self, after_s: float) -> None:
        left = await sweep(lambda: [self._guard.pid] if self._guard.pid is not None else [])
        if left:
            log.warning("descendants_left", pids=left)
        await asyncio.sleep(after_s)
        if self._done.is_set():
            return
        try:
            self._start_spawner()
        except OSError as error:
            log.error("spawner_not_started", error=str(error))
            self._on_spawner_died()

    # --- what is seen of processes --------------------------------------------------------

    def _running(self) -> list[tuple[str, int]]:
        return [
            (key_of(name, child.epoch), child.pid)
            for name, child in self._plan.children.items()
            if child.runs and child.pid is not None
        ]

    def _others(self) -> list[tuple[str, int]]:
        named = ((SPAWNER, self._spawner.pid), (GUARD, self._guard.pid))
        return [(name, pid) for name, pid in named if pid is not None]

    def _on_stopped(self, name: str) -> None:
        if name == GUARD:
            self._guard.on_stopped()
        else:
            self._do(self._plan.spawner_stopped())

    def _on_hang(self, name: str, epoch: str, hung: Hung) -> None:
        self._do(self._plan.hung(name, epoch, hung, self._now()))

    def _on_memory(self, name: str, epoch: str, rss_bytes: int) -> None:
        if effects := self._plan.has_memory(name, epoch, rss_bytes, self._now()):
            self._do(effects)

    def _tell_health(self) -> None:
        """Tell everybody of each actor whose health is another one now."""
        now, children = self._now(), self._plan.children
        if now < self._judge_at:
            return
        self._judge_at = now + len(children) * JUDGE_S_PER_ACTOR
        verdicts = self._reporter.verdicts(now, children)
        self._notifier.look(now, children, verdicts)
        for name, was in self._health.changes(verdicts):
            self._watchers.changed(name)
            health, reason = verdicts[name].health.value, verdicts[name].reason
            text = f"{name} is {health}{f': {reason}' if reason else ''}"
            data = {"health": health, "was": was.value}
            self._tell(Happened(what="health.changed", actor=name, text=text, data=data))

    # --- what actors say --------------------------------------------------------------------

    @handles(Heartbeat)
    def on_heartbeat(self, message: Heartbeat, request: Request) -> None:
        """Taken from actors only, for the incarnation whose connection it comes from."""
        if request.info is None:
            raise NotAllowed("a heartbeat needs a hello before it")
        peer = request.info
        # Most say nothing new, and there are many of them.
        if effects := self._plan.heartbeat(peer.name, peer.epoch, message, self._now()):
            self._do(effects)

    @handles(Happened)
    def on_happened(self, message: Happened, request: Request) -> None:
        """An actor's event, passed on under the name that its connection proved."""
        name = request.info.name if request.info is not None else "?"
        self._tell(message.model_copy(update={"actor": name}))

    # --- what clients ask -------------------------------------------------------------------

    @handles(Ping)
    def on_ping(self, message: Ping) -> Pong:
        """See `Ping`."""
        return Pong(name="supervisor", epoch=self._boot, payload=message.payload)

    @handles(WatchDirectory)
    async def on_watch_directory(
        self, message: WatchDirectory
    ) -> AsyncGenerator[DirectoryChange | Empty, None]:
        """See `WatchDirectory`."""
        async with contextlib.aclosing(self._watchers.directory(self._plan.children)) as changes:
            async for change in changes:
                yield change

    @handles(WatchEvents)
    async def on_watch_events(self, message: WatchEvents) -> AsyncGenerator[Events | Empty, None]:
        """See `WatchEvents`."""
        async with contextlib.aclosing(self._watchers.events(message.prefix)) as happened:
            async for events in happened:
                yield events

    @handles(Restart)
    def on_restart(self, message: Restart) -> Restarted:
        """See `Restart`."""
        names = message.names or list(self._plan.children)
        previous = {name: self._plan.child(name).epoch for name in names}
        self._do(self._plan.restart(message.names, self._now()))
        return Restarted(previous=previous)

    @handles(Drain)
    def on_drain(self, message: Drain) -> Empty:
        """See `Drain`."""
        self._do(self._plan.drain(message.name, self._now()))
        return Empty()

    @handles(Reload)
    def on_reload(self, message: Reload) -> Reloaded:
        """See `Reload`."""
        # Whatever is wrong is raised here, before anything is changed.
        found = changes(self._settings, self._load())
        self._settings = found.settings
        self._plan.reload(found.settings)
        self._lookout.reload(found.settings.hang)
        self._reporter.reload(found.settings)
        self._spawner_policy.reload(found.settings.restart, "permanent")
        reloaded = Reloaded(now=found.now, at_restart=found.at_restart, at_start=found.at_start)
        self._tell(
            Happened(
                what="settings.reloaded", actor="supervisor",
                text=f"the settings were read again: {len(found.now)} changed",
                data=reloaded.model_dump(),
            )
        )  # fmt: skip
        return reloaded

    @handles(Inject)
    def on_inject(self, message: Inject) -> Injected:
        """See `Inject`."""
        injected = self._injector.inject(message)
        log.warning("fault_injected", fault=message.fault, subject=message.target)
        return injected

    @handles(Shutdown)
    def on_shutdown(self, message: Shutdown) -> Empty:
        """See `Shutdown`."""
        # After the answer is on its way.
        self._loop.call_soon(lambda: self._do(self._plan.stop(self._now())))
        return Empty()

    @handles(GetStatus)
    def on_status(self, message: GetStatus) -> Status:
        """See `GetStatus`."""
        now = self._now()
        return self._reporter.status(
            now, self._plan.children,
            supervisor=ProcessStatus(
                pid=os.getpid(), restarts=self._lineage.restarts, uptime_s=now - self._began
            ),
            spawner=ProcessStatus(
                pid=self._spawner.pid, restarts=self._spawner_restarts,
                uptime_s=now - self._spawner_since,
            ),
            guard=ProcessStatus(
                pid=self._guard.pid, restarts=self._guard.restarts,
                uptime_s=now - self._guard.since,
            ),
            strangers=self._server.tally.rejected,
        )  # fmt: skip


def _open_log(settings: Settings) -> None:
    try:
        log_to(
            settings.data.logs_folder / "supervisor.jsonl", settings.logs,
            actor="supervisor", pid=os.getpid(),
        )  # fmt: skip
    except OSError as error:
        raise SetupError(
            f"the data folder {settings.data.folder} cannot be written: {error.strerror}; choose "
            "another one, such as --set data.folder=/tmp/noyau-data"
        ) from None


async def _run(
    load: Callable[[], Settings],
    settings: Settings,
    lineage: Lineage,
    service: Service | None,
    first_spawner: StartedProcess,
) -> None:
    run_folder = RunFolder(prepare_run_folder(settings.run.folder, settings.actors))
    try:
        _open_log(settings)
        await Supervisor(load, settings, run_folder, lineage, service).run(first_spawner)
    finally:
        run_folder.close()


def _for_this_machine(settings: Settings) -> Settings:
    profile = at_start(
        settings.device.profile, this_machine(), simulated_gpu=settings.gpu_is_simulated
    )
    return settings.model_copy(update={"device": DeviceSettings(profile=profile)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; returns the exit code, `EXIT_SETUP` when it cannot start."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    if not options.guard and not options.no_guard:
        # The guard is this process from here on, without all that was imported above.
        os.execv(sys.executable, [sys.executable, "-m", "supervision.guard", *given])
    become_subreaper()
    set_name("noyau-supervisor")
    # A terminal may be set to stop whoever writes to it from the background (stty tostop).
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    service = take_service(os.environ, os.getpid())

    def load() -> Settings:
        return _for_this_machine(
            load_settings(file=options.config, assignments=options.assignments)
        )

    try:
        settings = load()
        # Before anything is opened and any thread begins.
        first_spawner = fork_spawner()
        asyncio.run(_run(load, settings, lineage(given, options), service, first_spawner))
    except SetupError as error:
        sys.stderr.write(f"noyau: {error.message}\n")
        return EXIT_SETUP
    except NoyauError as error:
        sys.stderr.write(f"noyau: {error.message}\n")
        return EXIT_FAILED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
