"""The main of every actor process: starts the actor, keeps it beating, drains it, ends it.

::

    listen ─► hello ─► on_start ─► READY ─► (SIGTERM) drain ─► on_stop ─► end of process
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import structlog

from actors.kernel.actor import Actor, Surroundings
from actors.kernel.faults import Faults
from actors.kernel.listening import listen_to_others
from actors.kernel.logs import log_to
from actors.kernel.news import News
from actors.kernel.registry import load_actor
from actors.kernel.resources import apply_resources
from actors.kernel.serving import Server
from configs.incarnation import Incarnation
from protocol.backoff import Backoff
from protocol.caller import Caller
from protocol.clock import MonotonicClock
from protocol.codec import Codec
from protocol.connection import Identity
from protocol.errors import ActorDied, AddressUnusable, MissingHardware, NoyauError, SetupError
from protocol.keyfiles import AuthorizedKeys
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import Activity, Heartbeat
from protocol.signs import SignsPage
from protocol.transport import ZmqTransport

EXIT_OK = 0
EXIT_DEFECT = 70
"""The actor raised what it should not (EX_SOFTWARE of sysexits.h)."""
EXIT_SETUP = 78
"""It cannot start as it was told to, and trying again cannot help (EX_CONFIG)."""

START_RETRY = Backoff(first_s=2.0, factor=2.0, max_s=30.0)
"""How long an actor that could not start for a reason that may pass (no network) waits."""

LATE_S, LATE_LOOKS = 0.02, 10
"""Who ends in order has sent word of it, which is with all others within some milliseconds; that is
how often it is looked, at most, whether somebody had not heard it yet."""

log = structlog.get_logger("host")


class Host:
    """One actor's process, on its event loop."""

    def __init__(self, incarnation: Incarnation, secret: bytes) -> None:
        self._incarnation = incarnation
        self._secret = secret
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._clock = MonotonicClock()
        self._loop = asyncio.get_running_loop()
        self._signs: SignsPage | None = None
        self._news = News()
        self._open_door: Callable[[], None] = lambda: None
        self._faults: Faults | None = None
        if incarnation.settings.chaos.allowed:
            self._faults = Faults(incarnation, self._clock)

    async def run(self, actor_class: type[Actor], prepared: Any) -> int:
        """Live one life. Returns the process's exit code."""
        spec = self._incarnation
        limit = spec.settings.limits.max_frame_bytes
        transport = ZmqTransport()
        identity = Identity(spec.name, spec.epoch, self._secret)
        caller = Caller(
            transport, spec.supervisor_endpoint,
            identity=identity, clock=self._clock, codec=Codec(limit), reconnects=False,
        )  # fmt: skip
        # Nothing outlives the supervisor: whatever else should have ended this process, this does.
        caller.on_supervisor_lost.append(lambda _: os._exit(EXIT_OK))
        self._loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        try:
            self._signs = SignsPage(spec.signs_path)
        except OSError as error:
            # It works as well without; only the supervisor cannot see any more that it hangs.
            log.warning("no_signs", path=str(spec.signs_path), error=error.strerror)
        actor = actor_class(
            Surroundings(
                spec, caller, self._clock, self._changed.set, self._signs, prepared, self._faults
            )
        )
        server = Server(
            actor, name=spec.name, epoch=spec.epoch, secret=self._secret, clock=self._clock,
            codec=Codec(limit), hooks=actor.hooks, state=lambda: actor.state,
            max_open_per_peer=spec.settings.limits.max_open_conversations_per_peer,
            faults=self._faults, keys=AuthorizedKeys(spec.settings.data.keys_folder),
        )  # fmt: skip
        self._open_door = functools.partial(
            listen_to_others, server, transport, spec.settings, spec.name
        )
        self._loop.add_signal_handler(signal.SIGUSR1, self._give_up, server)
        caller.on_death.append(lambda death: server.peer_died(death.epoch))
        server.attach(transport.listen(spec.endpoint, server.on_frame))
        caller.open()
        beating = self._loop.create_task(self._beat(actor, server, caller))
        code = await self._live(actor, server)
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
        self._send_heartbeat(actor, server, caller)
        caller.close()
        transport.close()
        return code

    def _give_up(self, server: Server) -> None:
        """The supervisor finds that the work does not get on."""
        log.warning("work_given_up", requests=server.give_up())

    async def _live(self, actor: Actor, server: Server) -> int:
        starting = self._loop.create_task(self._start(actor))
        stopping = self._loop.create_task(self._stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
        elif starting.result() != EXIT_OK:
            stopping.cancel()
            return starting.result()
        await stopping
        if self._faults is not None:
            await asyncio.sleep(self._faults.exit_delay_s)
        actor.state = ActorState.DRAINING
        self._changed.set()
        # The supervisor's patience ends at drain_timeout_s; ours a little earlier, so that what
        # is still open gets its typed error from here.
        patience = self._incarnation.settings.supervisor.drain_timeout_s * 0.8
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.idle.wait(), patience)
        await self._refuse_the_late(server)
        await server.stop()
        await actor.on_stop()
        actor.state = ActorState.STOPPED
        return EXIT_OK

    async def _refuse_the_late(self, server: Server) -> None:
        """Wait until nothing comes any more from those who have not heard yet that this process
        ends. Who is refused asks the next one; of a request that nobody read, its sender would not
        know whether it was done."""
        for _ in range(LATE_LOOKS):
            refused = server.tally.rejected
            await asyncio.sleep(LATE_S)
            if server.tally.rejected == refused:
                return

    async def _start(self, actor: Actor) -> int:
        """Bring the actor to READY; tries again while the reason may pass."""
        if self._incarnation.start_delay_s:
            actor.activity = Activity(what="starting late, as it was told to")
            await asyncio.sleep(self._incarnation.start_delay_s)
        attempt = 0
        while True:
            try:
                self._open_door()
                await actor.on_start()
            except MissingHardware as error:
                self._began(actor, ActorState.UNAVAILABLE, error.message)
                log.info("unavailable", reason=error.message)
                return EXIT_OK
            except NoyauError as error:
                if isinstance(error, SetupError) and not isinstance(error, AddressUnusable):
                    return self._cannot(actor, error)
                # A port that somebody has may be free again, as a network may be back.
                delay = START_RETRY.ceiling(attempt)
                attempt += 1
                actor.reason = f"{error.message} (tried {attempt}x, again in {delay:g} s)"
                actor.activity = Activity(what="waiting to try again")
                self._changed.set()
                log.warning("start_failed", code=error.code, error=error.message, again_in_s=delay)
                await asyncio.sleep(delay)
            else:
                self._began(actor, ActorState.READY, "")
                return EXIT_OK

    def _began(self, actor: Actor, state: ActorState, reason: str) -> None:
        actor.reason = reason
        actor.activity = Activity()
        actor.state = state
        self._changed.set()

    def _cannot(self, actor: Actor, error: NoyauError) -> int:
        actor.reason = error.message
        log.error("cannot_start", code=error.code, error=error.message)
        return EXIT_SETUP

    async def _beat(self, actor: Actor, server: Server, caller: Caller) -> None:
        interval = self._incarnation.settings.supervisor.heartbeat_interval_s
        while True:
            self._send_heartbeat(actor, server, caller)
            self._changed.clear()
            due = self._clock.now() + interval
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), interval)
            server.tally.loop_lag_ms = max(0.0, (self._clock.now() - due) * 1000)

    def _send_heartbeat(self, actor: Actor, server: Server, caller: Caller) -> None:
        server.tally.progress, server.tally.waiting = actor.progress, actor.waiting
        if self._signs is not None:
            self._signs.does(actor.doing)
            self._signs.beat(self._clock.now())
        heartbeat = Heartbeat(
            state=actor.state, counters=server.counters(), activity=actor.activity,
            reason=actor.reason, info=actor.info, unanswered=caller.unanswered(),
        )  # fmt: skip
        # Without a page, that the loop turns is news every time.
        if not self._news.wants(heartbeat) and self._signs is not None:
            return
        try:
            caller.tell_supervisor(heartbeat)
        except ActorDied as error:
            # The loss of the supervisor's link ends this process by itself.
            log.warning("heartbeat_not_sent", error=error.message)


def _prepared(incarnation: Incarnation) -> tuple[type[Actor], Any]:
    """The actor's class, and what it prepared."""
    try:
        apply_resources(incarnation.name, incarnation.settings.actors[incarnation.name])
        actor_class = load_actor(incarnation.class_path)
        return actor_class, actor_class.prepare(incarnation)
    except SetupError as error:
        return _unstartable(error), None


def _unstartable(error: SetupError) -> type[Actor]:
    """An actor that can do nothing but say why: so the supervisor learns the reason."""

    class Unstartable(Actor):
        async def on_start(self) -> None:
            raise error

    return Unstartable


def _read_secret(descriptor: int) -> bytes:
    with open(descriptor, "rb") as pipe:
        return pipe.read()


async def _main(
    incarnation: Incarnation, secret: bytes, actor_class: type[Actor], prepared: Any
) -> int:
    return await Host(incarnation, secret).run(actor_class, prepared)


def run(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Be the actor that ``payload``, a dumped `Incarnation`, describes. Called after the fork.

    ``secret_fd`` is a pipe that holds what proves to other actors that this is one. Ends by
    ``os._exit``: some model libraries abort or hang in an orderly interpreter exit.
    """
    incarnation = Incarnation.model_validate(payload)
    log_to(
        incarnation.log_path, incarnation.settings.logs,
        actor=incarnation.name, epoch=incarnation.epoch, pid=os.getpid(),
    )  # fmt: skip
    code = EXIT_DEFECT
    try:
        actor_class, prepared = _prepared(incarnation)
        secret = _read_secret(secret_fd)
        # Not asyncio.run: it would wait for every thread, also one that is stuck in a native call.
        loop = asyncio.new_event_loop()
        code = loop.run_until_complete(_main(incarnation, secret, actor_class, prepared))
    except Exception as error:
        log.critical("actor_crashed", exc_info=error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
