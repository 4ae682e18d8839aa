"""Drives a `Plan` by hand: events in one word each, time that the test moves, effects kept."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from configs.schema import Settings
from protocol.clock import ManualClock
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import Heartbeat
from supervision.child import ChildState
from supervision.effects import Effect, Publish, Signal, Spawn, Tell
from supervision.plan import Plan
from supervision.restart import Exit, RestartPolicy

Kind = Literal["permanent", "transient", "temporary"]

CRASH = Exit(code=1)
KILLED = Exit(signal=signal.SIGKILL)
CLEAN = Exit(code=0)


def settings_of(
    needs: Mapping[str, Sequence[str]],
    kinds: Mapping[str, Kind] | None = None,
    uses: Mapping[str, Sequence[str]] | None = None,
    **sections: Any,
) -> Settings:
    """Settings of actors that need and use each other like this, all other numbers at their
    defaults."""
    actors: dict[str, dict[str, Any]] = {
        name: {
            "class": "nowhere:Nobody",
            "needs": list(required),
            "uses": list((uses or {}).get(name, ())),
            "restart": (kinds or {}).get(name, "permanent"),
        }
        for name, required in needs.items()
    }
    for used in {one for some in (uses or {}).values() for one in some} - actors.keys():
        actors[used] = {"class": "nowhere:Nobody", "enabled": False}
    return Settings.model_validate({"actors": actors, "query": {"engines": []}, **sections})


class PlanDriver:
    """A plan, and what it has asked for. Every event returns its own effects."""

    def __init__(
        self,
        needs: Mapping[str, Sequence[str]],
        kinds: Mapping[str, Kind] | None = None,
        uses: Mapping[str, Sequence[str]] | None = None,
        **sections: Any,
    ) -> None:
        self.settings = settings_of(needs, kinds, uses, **sections)
        self.clock = ManualClock(1000.0)
        self.plan = Plan(self.settings, "boot")
        # The longest wait that the jitter allows, so that a test knows it.
        for name, child in self.plan.children.items():
            kind = self.settings.actors[name].restart
            child.policy = RestartPolicy(self.settings.restart, kind, draw=lambda: 1.0)
        self.all: list[Effect] = []
        self._pid = 100

    @property
    def now(self) -> float:
        return self.clock.now()

    def state(self, name: str) -> ChildState:
        return self.plan.children[name].state

    def reason(self, name: str) -> str:
        return self.plan.children[name].reason

    def epoch(self, name: str) -> str:
        return self.plan.children[name].epoch

    def _did(self, effects: list[Effect]) -> list[Effect]:
        self.all += effects
        return effects

    # --- events -----------------------------------------------------------------------------

    def spawner_started(self) -> list[Effect]:
        return self._did(self.plan.spawner_started(self.now))

    def spawner_ready(self) -> list[Effect]:
        return self._did(self.plan.spawner_ready(self.now))

    def spawner_lost(self) -> list[Effect]:
        return self._did(self.plan.spawner_lost(self.now))

    def spawner_stopped(self) -> list[Effect]:
        return self._did(self.plan.spawner_stopped())

    def spawned(self, name: str, epoch: str | None = None) -> list[Effect]:
        self._pid += 1
        return self._did(self.plan.spawned(name, epoch or self.epoch(name), self._pid, self.now))

    def spawn_failed(self, name: str, reason: str, epoch: str | None = None) -> list[Effect]:
        epoch = epoch or self.epoch(name)
        return self._did(self.plan.spawn_failed(name, epoch, reason, self.now))

    def beat(
        self,
        name: str,
        state: ActorState = ActorState.READY,
        reason: str = "",
        epoch: str | None = None,
        **info: Any,
    ) -> list[Effect]:
        beat = Heartbeat(state=state, reason=reason, info=info)
        return self._did(self.plan.heartbeat(name, epoch or self.epoch(name), beat, self.now))

    def died(self, name: str, epoch: str | None = None) -> list[Effect]:
        return self._did(self.plan.died(name, epoch or self.epoch(name), self.now))

    def ended(self, name: str, exit_: Exit = KILLED, epoch: str | None = None) -> list[Effect]:
        return self._did(self.plan.ended(name, epoch or self.epoch(name), exit_, self.now))

    def restart(self, *names: str) -> list[Effect]:
        """No names: all."""
        return self._did(self.plan.restart(names, self.now))

    def drain(self, name: str) -> list[Effect]:
        return self._did(self.plan.drain(name, self.now))

    def stop(self) -> list[Effect]:
        return self._did(self.plan.stop(self.now))

    def advance(self, seconds: float) -> list[Effect]:
        """Move the clock, then let the plan do what came due."""
        self.clock.advance(seconds)
        return self._did(self.plan.tick(self.now))

    # --- several events in a row --------------------------------------------------------------

    def up(self, *names: str) -> None:
        """These were asked for: their processes come, and say that they are READY."""
        for name in names:
            self.spawned(name)
            self.beat(name)

    def crash(self, name: str, exit_: Exit = KILLED) -> list[Effect]:
        """The kernel tells of a death, then the spawner of how it was."""
        epoch = self.epoch(name)
        return self.died(name, epoch) + self.ended(name, exit_, epoch)


def running(*names: str, **sections: Any) -> PlanDriver:
    """Actors that need nobody, all READY."""
    driver = PlanDriver({name: [] for name in names}, **sections)
    driver.spawner_ready()
    driver.up(*names)
    return driver


def spawns(effects: Iterable[Effect]) -> list[str]:
    """Who is asked to be spawned."""
    return [effect.name for effect in effects if isinstance(effect, Spawn)]


def published(effects: Iterable[Effect]) -> list[str]:
    """Whose entry in the directory changed."""
    return [effect.name for effect in effects if isinstance(effect, Publish)]


def signals(effects: Iterable[Effect]) -> list[tuple[str, signal.Signals]]:
    """Who is sent what."""
    return [(effect.name, effect.signal) for effect in effects if isinstance(effect, Signal)]


def told(effects: Iterable[Effect]) -> list[str]:
    """The names of the events that people and logs are told."""
    return [effect.what for effect in effects if isinstance(effect, Tell)]
