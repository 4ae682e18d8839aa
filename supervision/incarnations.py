"""The processes of actors: made through the spawner, signalled, read, and seen to die by their
pidfds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from configs import Settings
from configs.incarnation import Incarnation
from supervision.output import Outputs
from supervision.spawner import SpawnedProcess, Spawner, SpawnOrder

ACTOR_MAIN = "actors.kernel.host:run"


@dataclass(frozen=True, slots=True)
class IncarnationEvents:
    """What the owner wants to be told, each with an actor's name and epoch. Every call comes from
    the event loop."""

    spawned: Callable[[str, str, int], None]
    """(name, epoch, pid)"""
    died: Callable[[str, str], None]
    """The kernel says that the process ended."""


class Incarnations:
    """Every process of an actor that lives, by its key ``NAME.EPOCH``."""

    def __init__(
        self, spawner: Spawner, secret: bytes, outputs: Outputs, events: IncarnationEvents
    ) -> None:
        """``secret``: by which actors prove who they are. ``outputs``: takes what they print."""
        self._spawner = spawner
        self._secret = secret
        self._outputs = outputs
        self._events = events
        self._pidfds: dict[str, int] = {}
        self._dumped: tuple[Settings, dict[str, Any]] | None = None
        self._delays: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()

    def spawn(self, settings: Settings, name: str, epoch: str) -> None:
        """Have the spawner make this incarnation, with these settings."""
        entry = settings.actors[name]
        if self._dumped is None or self._dumped[0] is not settings:
            self._dumped = (settings, settings.model_dump(mode="json"))
        spec = Incarnation(
            name=name, epoch=epoch, class_path=entry.class_path, options=entry.settings,
            settings=settings, start_delay_s=self._delays.pop(name, 0.0),
        )  # fmt: skip
        payload = spec.model_dump(mode="json", exclude={"settings"})
        self._spawner.order(
            SpawnOrder(
                key_of(name, epoch),
                name,
                ACTOR_MAIN,
                payload | {"settings": self._dumped[1]},
                self._secret,
            )
        )

    def delay_next(self, name: str, seconds: float) -> None:
        """Have this actor's next incarnation begin late, on purpose."""
        self._delays[name] = seconds

    def take(self, made: SpawnedProcess) -> None:
        """The spawner made it."""
        name, epoch = name_and_epoch(made.key)
        self._pidfds[made.key] = made.pidfd
        self._loop.add_reader(made.pidfd, self._on_pidfd, made.key)
        self._outputs.take(name, epoch, made.pid, made.stdout, made.stderr)
        self._events.spawned(name, epoch, made.pid)

    def _on_pidfd(self, key: str) -> None:
        pidfd = self._pidfds.pop(key)
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        name, epoch = name_and_epoch(key)
        # Before what follows from it, so that its last words stand before that in the logs.
        self._outputs.died(name, epoch)
        self._events.died(name, epoch)

    def signal(self, name: str, epoch: str, number: signal.Signals) -> None:
        """Send it a signal. Does nothing when it has ended."""
        pidfd = self._pidfds.get(key_of(name, epoch))
        if pidfd is not None:
            try:
                signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                # It ended between the decision and now; its pidfd says so next.
                return


def key_of(name: str, epoch: str) -> str:
    """What an incarnation is called where there is one word for it."""
    return f"{name}.{epoch}"


def name_and_epoch(key: str) -> tuple[str, str]:
    """The two parts of a key."""
    name, _, epoch = key.partition(".")
    return name, epoch
