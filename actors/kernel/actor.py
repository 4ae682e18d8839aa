"""The base of every actor: what it is given, what it may override, how it says what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from actors.kernel.faults import Faults
from actors.kernel.handlers import handles
from actors.kernel.hooks import Hooks
from configs.incarnation import Incarnation
from protocol.caller import Caller
from protocol.clock import Clock
from protocol.errors import ActorDied, InvalidRequest, InvalidSettings, Overloaded
from protocol.lifecycle import ActorState
from protocol.messages.actor import Disturb, Disturbed, Ping, Pong
from protocol.messages.supervisor import Activity, Happened
from protocol.signs import Doing, SignsPage

Options = TypeVar("Options", bound=BaseModel)


@dataclass(slots=True)
class Surroundings:
    """What the host gives an actor."""

    incarnation: Incarnation
    caller: Caller
    clock: Clock
    changed: Callable[[], None]
    """Tell the supervisor at once that something about the actor changed."""
    signs: SignsPage | None = None
    """The page on which it shows the supervisor that it gets on; None where there can be none."""
    prepared: Any = None
    """What `Actor.prepare` returned."""
    faults: Faults | None = None
    """What is got wrong on purpose; None where that is not allowed."""


class Actor:
    """One part of the assistant. Subclass it, add ``@handles(Message)`` methods, name the class
    in ``[actors.NAME]``: that is all.

    Everything runs on one event loop's thread; what blocks belongs into a thread of its own.
    """

    hooks: ClassVar[list[Hooks]] = []

    def __init__(self, surroundings: Surroundings) -> None:
        self.incarnation = surroundings.incarnation
        self.name = surroundings.incarnation.name
        self.epoch = surroundings.incarnation.epoch
        self.caller = surroundings.caller
        self.clock = surroundings.clock
        self.log = structlog.get_logger(self.name)
        self.state = ActorState.STARTING
        self.activity = Activity()
        self.reason = ""
        """Why it cannot go on, where it cannot: shown to people."""
        self.info: dict[str, Any] = {}
        """What callers may want to know of it: travels with the directory."""
        self.progress = 0
        self._working = False
        self._signs = surroundings.signs
        self._changed = surroundings.changed
        self._faults = surroundings.faults

    # --- override these -------------------------------------------------------------------

    @classmethod
    def prepare(cls, incarnation: Incarnation) -> Any:
        """Called before all else, while this process has one thread, nothing open, and does not
        know the secret by which actors prove who they are: the one moment in which it may be
        forked. What it returns is `Surroundings.prepared`. Raise a `SetupError` to say that the
        actor cannot start."""
        return None

    async def on_start(self) -> None:
        """Called once, before READY; pings are answered meanwhile. Raise a `NoyauError` to say
        that it cannot start: `MissingHardware` makes it `unavailable`, any other `SetupError` is
        final, and all others are tried again with backoff."""

    async def on_stop(self) -> None:
        """Called once, after the last conversation is over. Not called on SIGKILL: whatever must
        be true after a crash has to be true at every moment."""

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn inside it."""
        return 0

    # --- use these ------------------------------------------------------------------------

    def options(self, model: type[Options]) -> Options:
        """The actor's own settings, validated. Raises `InvalidSettings` with all errors."""
        return options_of(self.incarnation, model)

    def say(
        self, what: str, done: int = 0, total: int = 0, unit: str = "", *, working: bool = False
    ) -> None:
        """Say what the actor is doing. A new ``what`` is told at once, numbers with the next
        heartbeat.

        ``working``: until something else is said, its threads work and raise `progressed` with
        each unit; when they do not get on, it is taken for stuck (see `configs.HangSettings`).
        """
        news = what != self.activity.what or working is not self._working
        self._working = working
        self.activity = Activity(what=what, done=done, total=total, unit=unit)
        if news:
            self._changed()

    def progressed(self, units: int = 1) -> None:
        """Work was done: what is slow but alive shows by this. From any thread."""
        self.progress += units
        if self._signs is not None:
            self._signs.progressed(units)

    @property
    def doing(self) -> Doing:
        """What it is given time for."""
        if self.state is ActorState.STARTING:
            return Doing.LOADING
        return Doing.WORKING if self._working else Doing.IDLE

    def changed(self) -> None:
        """Tell the supervisor at once (of ``info`` or ``reason``), not with the next heartbeat."""
        self._changed()

    def publish(self, what: str, text: str, **data: Any) -> None:
        """Tell everybody who watches events. Lost only with the supervisor itself, or where that
        has too much to read; never raises."""
        try:
            self.caller.tell_supervisor(Happened(what=what, actor=self.name, text=text, data=data))
        except (ActorDied, Overloaded) as error:
            self.log.warning("event_not_sent", what=what, error=error.message)

    @handles(Ping, always=True)
    def ping(self, message: Ping) -> Pong:
        """Answer at once, whatever the state."""
        return Pong(name=self.name, epoch=self.epoch, payload=message.payload)

    @handles(Disturb, always=True)
    def disturb(self, message: Disturb) -> Disturbed:
        """See `Disturb`. Raises `NotAllowed` unless the settings allow it."""
        self.incarnation.settings.chaos.check()
        if self._faults is None:
            raise InvalidRequest(f"{self.name} cannot be disturbed")
        self.log.warning("disturbed", fault=message.fault)
        return self._faults.begin(message)


def options_of(incarnation: Incarnation, model: type[Options]) -> Options:
    """An actor's own settings, validated. Raises `InvalidSettings` with all errors."""
    try:
        return model.model_validate(incarnation.options)
    except ValidationError as error:
        found = "; ".join(
            f"actors.{incarnation.name}.settings.{'.'.join(map(str, e['loc']))}: {e['msg']}"
            for e in error.errors(include_url=False, include_input=False)
        )
        raise InvalidSettings(found) from None
