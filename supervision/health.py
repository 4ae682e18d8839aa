"""Healthy, degraded or unhealthy, and why, in words. Pure.

From what the supervisor knows by itself (the state of the process, how old its last heartbeat is)
and from what the actor counts (failures in a row and of late, how late its event loop is).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from configs.schema import Settings
from protocol.lifecycle import Health
from supervision.child import Child, ChildState

_GONE = (ChildState.FAILED, ChildState.STOPPED)

JUDGE_S_PER_ACTOR = 0.0025
"""With few actors their health is judged at every look; 200 of them take a millisecond each time,
and are judged twice a second."""

HUNG_FOR_S = 1.0
"""Who hangs is found so again at every look, ten times a second; who is not any more, is well."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A health and the reason for it."""

    health: Health
    reason: str = ""
    counts: bool = True
    """Whether it is a part of the system's health."""


def judge(child: Child, now: float, settings: Settings) -> Verdict:
    """How one actor does."""
    why = f": {child.reason}" if child.reason else ""
    if child.ended_for and child.runs:
        return Verdict(Health.UNHEALTHY, child.ended_for)
    if child.hung is not None and child.serves and now - child.hung[1] < HUNG_FOR_S:
        return Verdict(Health.UNHEALTHY, child.hung[0])
    match child.state:
        case ChildState.FAILED:
            return Verdict(Health.UNHEALTHY, f"failed{why}")
        case ChildState.STOPPED:
            return Verdict(Health.UNHEALTHY, f"stopped{why}")
        case ChildState.BACKOFF | ChildState.DEAD:
            return Verdict(Health.UNHEALTHY, f"restarting after {child.last_exit or 'its end'}")
        case ChildState.STOPPING:
            return Verdict(Health.DEGRADED, "draining")
        case ChildState.WAITING | ChildState.SPAWNING:
            return Verdict(Health.DEGRADED, f"not started yet{why}")
        case ChildState.STARTING if child.reason:
            return Verdict(Health.UNHEALTHY, child.reason)
        case ChildState.STARTING:
            return Verdict(Health.DEGRADED, f"starting: {child.activity.what}")
    missed_after_s = settings.supervisor.heartbeat_missed_after_s
    if child.heard_at is not None and now - child.heard_at > missed_after_s:
        return Verdict(Health.UNHEALTHY, f"no heartbeat for {now - child.heard_at:.1f} s")
    if child.state is ChildState.UNAVAILABLE:
        # Only a profile that was asked for promises what the machine may not have.
        if settings.device.profile == "full" and child.name in settings.gpu_engines:
            why = f"{child.reason}; the device profile full promises it: set device.profile to auto"
            return Verdict(Health.DEGRADED, why)
        # What the machine cannot do was never promised on it.
        return Verdict(Health.HEALTHY, child.reason, counts=False)
    return _judge_work(child, now, settings)


def _judge_work(child: Child, now: float, settings: Settings) -> Verdict:
    if child.failures is not None:
        health, reason = child.failures.judge(now)
        if health is not Health.HEALTHY:
            return Verdict(health, reason)
    waiting = child.counters.waiting
    if waiting >= settings.health.queue_depth:
        return Verdict(Health.DEGRADED, f"{waiting} requests wait in it")
    late_s = child.counters.loop_lag_ms / 1000
    if late_s > settings.health.loop_lag_s:
        return Verdict(Health.DEGRADED, f"its event loop was {late_s:.1f} s late")
    return Verdict(Health.HEALTHY)


def judge_all(children: Mapping[str, Child], now: float, settings: Settings) -> dict[str, Verdict]:
    """How each actor does; one that is well suffers where an actor that it needs is gone for
    good."""
    verdicts = {name: judge(child, now, settings) for name, child in children.items()}
    for name, child in children.items():
        gone = [need for need in child.needs if children[need].state in _GONE]
        if gone and verdicts[name].health is Health.HEALTHY:
            state = children[gone[0]].state
            verdicts[name] = Verdict(Health.DEGRADED, f"it needs {gone[0]}, which is {state}")
    return verdicts


def judge_system(verdicts: Iterable[tuple[str, Verdict]]) -> Verdict:
    """How the whole does: healthy when all that count are, unhealthy when none is, else
    degraded."""
    parts = [(name, verdict) for name, verdict in verdicts if verdict.counts]
    bad = [(name, verdict) for name, verdict in parts if verdict.health is not Health.HEALTHY]
    if not bad:
        return Verdict(Health.HEALTHY)
    reason = "; ".join(f"{name} {verdict.reason}" for name, verdict in bad)
    if len(bad) == len(parts) and all(v.health is Health.UNHEALTHY for _, v in bad):
        return Verdict(Health.UNHEALTHY, reason)
    return Verdict(Health.DEGRADED, reason)


class HealthBoard:
    """The health of everybody as it was last told, and what is another one now."""

    def __init__(self) -> None:
        self._told: dict[str, Verdict] = {}
        self._due_at = 0.0

    def is_due(self, now: float, actors: int) -> bool:
        """Whether so many are to be judged at this look; the next time is then put off by their
        number."""
        if now < self._due_at:
            return False
        self._due_at = now + actors * JUDGE_S_PER_ACTOR
        return True

    def of(self, name: str) -> Health:
        """As it was last told; healthy where nothing was told yet."""
        return self._told[name].health if name in self._told else Health.HEALTHY

    def changes(self, verdicts: Mapping[str, Verdict]) -> list[tuple[str, Health]]:
        """Those whose health is another one than was told, and what it was; told from now on."""
        changed = [
            (name, self.of(name))
            for name, verdict in verdicts.items()
            if verdict.health is not self.of(name)
        ]
        self._told = dict(verdicts)
        return changed
