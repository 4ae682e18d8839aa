"""The supervisor: what a user starts. A thin shell around ``supervision/``.

::

    python supervisor.py [--config FILE] [--set NAME=VALUE …] [--no-guard]

      guard ── supervisor ── spawner ── storage, cpu_engine, orchestrator …

`supervision.shell` runs and watches, as `supervision.plan` decides; here is who may ask and order
what, and the program around it. No actor is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence

import structlog

from actors.kernel.handlers import handles
from actors.kernel.listening import listen_to_others
from actors.kernel.logs import RotatingFile, log_to
from actors.kernel.request import Request
from actors.kernel.serving import Server
from configs import DeviceSettings, Settings, load_settings, prepare_run_folder
from configs.machine import this_machine
from configs.profiles import at_start
from configs.reloading import changes
from protocol.codec import Codec
from protocol.endpoints import endpoint, from_afar
from protocol.errors import NotAllowed, NoyauError, SetupError
from protocol.keyfiles import AuthorizedKeys
from protocol.messages.actor import Ping, Pong
from protocol.messages.base import Empty
from protocol.messages.supervisor import (
    DirectoryChange,
    Drain,
    Events,
    GetStatus,
    Happened,
    Heartbeat,
    Inject,
    Injected,
    Reload,
    Reloaded,
    Restart,
    Restarted,
    Shutdown,
    Stalled,
    Status,
    WatchDirectory,
    WatchEvents,
)
from protocol.ports import Remote
from protocol.transport import ZmqTransport
from supervision.arguments import lineage, parse_arguments
from supervision.forking import StartedProcess
from supervision.guarded import Lineage
from supervision.notify import Service, take_service
from supervision.processes import become_subreaper, set_name
from supervision.runfolder import RunFolder
from supervision.shell import Shell, SpawnerFailed
from supervision.spawner import (
    fork_spawner,
)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_SETUP = 78
"""EX_CONFIG of sysexits.h: the settings or the run folder do not allow a start."""

log = structlog.get_logger("supervisor")


class Supervisor:
    """Answers those who ask, for all that its shell runs."""

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
        self._loop = asyncio.get_running_loop()
        secret = secrets.token_bytes(32)
        self._shell = Shell(
            settings, run_folder, lineage, boot=self._boot, secret=secret, service=service,
            open_output=lambda name: RotatingFile(settings.data.output_path(name), settings.logs),
        )  # fmt: skip
        self._server = Server(
            self, name="supervisor", epoch=self._boot, secret=secret, clock=self._shell.clock,
            codec=Codec(settings.limits.max_frame_bytes),
            max_open_per_peer=settings.limits.max_open_conversations_per_peer,
            keys=AuthorizedKeys(settings.data.keys_folder),
        )  # fmt: skip

    async def run(self, first_spawner: StartedProcess | None = None) -> None:
        """Run until everything has been told to stop and has stopped. Raises `SpawnerFailed`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._shell.stop)
        if self._lineage.guard:
            # The guard passes on a terminal's. The kernel's own, to a group that loses its parent
            # while one of it is stopped, means no harm: another guard follows.
            self._loop.add_signal_handler(signal.SIGHUP, log.info, "hung_up_on")
        transport = ZmqTransport()
        address = endpoint(self._run_folder.folder, "supervisor")
        self._server.attach(transport.listen(address, self._server.on_frame))
        listen_to_others(self._server, transport, self._settings, "supervisor")
        self._shell.start(first_spawner)
        log.info("started", boot=self._boot, run_folder=str(self._run_folder.folder))
        code = EXIT_OK
        try:
            await self._shell.ended()
            await self._server.stop()
            self._shell.forget()
        except SpawnerFailed:
            code = EXIT_FAILED
            raise
        finally:
            self._shell.close(code)
            transport.close()
        log.info("stopped")

    # --- what actors say --------------------------------------------------------------------

    @handles(Heartbeat)
    def on_heartbeat(self, message: Heartbeat, request: Request) -> None:
        """Taken from actors only, for the incarnation whose connection it comes from."""
        if request.info is None:
            raise NotAllowed("a heartbeat needs a hello before it")
        self._shell.heartbeat(request.info.name, request.info.epoch, message)

    @handles(Happened)
    def on_happened(self, message: Happened, request: Request) -> None:
        """An actor's event, passed on under the name that its connection proved."""
        name = request.info.name if request.info is not None else "?"
        self._shell.tell(message.model_copy(update={"actor": name}))

    @handles(Stalled)
    def on_stalled(self, message: Stalled, request: Request) -> None:
        """See `Stalled`."""
        self._shell.stalled(request.info.name if request.info is not None else "?", message)

    # --- what clients ask -------------------------------------------------------------------

    @handles(Ping)
    def on_ping(self, message: Ping) -> Pong:
        """See `Ping`."""
        return Pong(name="supervisor", epoch=self._boot, payload=message.payload)

    @handles(WatchDirectory)
    async def on_watch_directory(
        self, message: WatchDirectory, request: Request
    ) -> AsyncGenerator[DirectoryChange | Empty, None]:
        """See `WatchDirectory`."""
        entries = self._shell.watchers.directory(self._shell.plan.children)
        async with contextlib.aclosing(entries) as changes:
            async for change in changes:
                yield self._from_afar(change) if isinstance(request.peer, Remote) else change

    def _from_afar(self, change: DirectoryChange | Empty) -> DirectoryChange | Empty:
        """The same for who is on another machine: with the ports for those."""
        if isinstance(change, Empty):
            return change
        return DirectoryChange(
            entries=[
                entry.model_copy(
                    update={"endpoint": from_afar(self._settings.remote_endpoint(entry.name))}
                )
                if entry.endpoint
                else entry
                for entry in change.entries
            ]
        )

    @handles(WatchEvents)
    async def on_watch_events(self, message: WatchEvents) -> AsyncGenerator[Events | Empty, None]:
        """See `WatchEvents`."""
        async with contextlib.aclosing(self._shell.watchers.events(message.prefix)) as happened:
            async for events in happened:
                yield events

    @handles(Restart)
    def on_restart(self, message: Restart) -> Restarted:
        """See `Restart`."""
        names = message.names or list(self._shell.plan.children)
        previous = {name: self._shell.plan.child(name).epoch for name in names}
        self._shell.do(self._shell.plan.restart(message.names, self._shell.clock.now()))
        return Restarted(previous=previous)

    @handles(Drain)
    def on_drain(self, message: Drain) -> Empty:
        """See `Drain`."""
        self._shell.do(self._shell.plan.drain(message.name, self._shell.clock.now()))
        return Empty()

    @handles(Reload)
    def on_reload(self, message: Reload) -> Reloaded:
        """See `Reload`."""
        # Whatever is wrong is raised here, before anything is changed.
        found = changes(self._settings, self._load())
        self._settings = found.settings
        self._shell.reload(found)
        reloaded = Reloaded(now=found.now, at_restart=found.at_restart, at_start=found.at_start)
        self._shell.tell(
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
        injected = self._shell.injector.inject(message)
        log.warning("fault_injected", fault=message.fault, subject=message.target)
        return injected

    @handles(Shutdown)
    def on_shutdown(self, message: Shutdown) -> Empty:
        """See `Shutdown`."""
        # After the answer is on its way.
        self._loop.call_soon(self._shell.stop)
        return Empty()

    @handles(GetStatus)
    def on_status(self, message: GetStatus) -> Status:
        """See `GetStatus`."""
        return self._shell.status(self._server.tally.rejected)


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
        settings.device.profile, this_machine(), gpu_elsewhere=settings.gpu_is_elsewhere
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
