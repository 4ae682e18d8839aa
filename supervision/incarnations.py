"""The processes of actors: made through the spawner, signalled and seen to die by their pidfds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from configs import Settings
from configs.incarnation import Incarnation
from supervision.spawner import Spawner, SpawnOrder

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

    def __init__(self, spawner: Spawner, secret: bytes, events: IncarnationEvents) -> None:
        """``secret``: by which actors prove who they are."""
        self._spawner = spawner
        self._secret = secret
        self._events = events
        self._pidfds: dict[str, int] = {}
        self._delays: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()

    def spawn(self, settings: Settings, name: str, epoch: str) -> None:
        """Have the spawner make this incarnation, with these settings."""
        entry = settings.actors[name]
        spec = Incarnation(
            name=name, epoch=epoch, class_path=entry.class_path, options=entry.settings,
            settings=settings, start_delay_s=self._delays.pop(name, 0.0),
        )  # fmt: skip
        self._spawner.order(
            SpawnOrder(
                key_of(name, epoch), name, ACTOR_MAIN, spec.model_dump(mode="json"), self._secret,
                str(spec.output_path),
            )
        )  # fmt: skip

    def delay_next(self, name: str, seconds: float) -> None:
        """Have this actor's next incarnation begin late, on purpose."""
        self._delays[name] = seconds

    def take(self, key: str, pid: int, pidfd: int) -> None:
        """The spawner made it."""
        self._pidfds[key] = pidfd
        self._loop.add_reader(pidfd, self._on_pidfd, key)
        self._events.spawned(*name_and_epoch(key), pid)

    def _on_pidfd(self, key: str) -> None:
        pidfd = self._pidfds.pop(key)
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._events.died(*name_and_epoch(key))

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
