"""How one child is brought to its end, rung by rung of the ladder. Pure."""

from __future__ import annotations

from configs.schema import Settings
from supervision.child import Child, ChildEvent, ChildState
from supervision.effects import Effect, Publish, Signal, Tell
from supervision.hangs import Hung
from supervision.ladder import Rung

KILL_CONFIRM_S = 5.0
"""After SIGKILL a process is gone within milliseconds; one that is not is stuck in the kernel, and
people should know."""


def drain(
    child: Child, settings: Settings, now: float, patience_s: float | None = None
) -> list[Effect]:
    """Have it take nothing more, finish what it does, and end; ``patience_s`` later it is killed
    (by default `drain_timeout_s`)."""
    child.take(ChildEvent.STOP, now)
    child.ladder.climb(Rung.TERM, now)
    drain_s = settings.supervisor.drain_timeout_s
    child.due_at = now + (drain_s if patience_s is None else patience_s)
    return [Signal(child.name, child.epoch, Rung.TERM.signal), Publish(child.name)]


def hung(child: Child, verdict: Hung, settings: Settings, now: float) -> list[Effect]:
    """It was found to hang, as every look finds it again: the next rung, once the last one had
    its time. One that is stopped can only be killed."""
    name = child.name
    child.hung = (f"hung: {verdict.reason}", now)
    if verdict.stopped or (child.state is ChildState.STOPPING and not child.ended_for):
        child.ended_for = child.hung[0]
        text = f"{name} hangs, and is killed: {verdict.reason}"
        return [*_climb(child, Rung.KILL, "actor.hung", text, now), Publish(name)]
    if child.state is ChildState.STOPPING:
        # It was asked to end, and has some time for it.
        return []
    cancelled_s = child.ladder.since(Rung.CANCEL, now)
    if cancelled_s is None and verdict.loop_turns:
        text = f"{name} hangs, and is asked to give up its work: {verdict.reason}"
        return [*_climb(child, Rung.CANCEL, "actor.hung", text, now), Publish(name)]
    if cancelled_s is not None and cancelled_s < settings.hang.cancel_s:
        return []
    child.ended_for = child.hung[0]
    text = f"{name} hangs, and is asked to end: {verdict.reason}"
    return [
        Tell("actor.hung", name, text, child.ladder.times(now)),
        *drain(child, settings, now, settings.hang.term_s),
    ]


def too_large(
    child: Child, rss_bytes: int, ceiling_mib: float, settings: Settings, now: float
) -> list[Effect]:
    """It has more memory than it may have."""
    child.ended_for = f"needed {rss_bytes / 2**20:.0f} MiB of memory, more than its {ceiling_mib:g}"
    return [
        Tell("actor.too_large", child.name, f"{child.name} is drained: it {child.ended_for}"),
        *drain(child, settings, now),
    ]


def out_of_time(child: Child, now: float) -> list[Effect]:
    """It did not start, or end, in the time that it had for it."""
    if child.ladder.on(Rung.KILL):
        text = (
            f"{child.name} was killed and is not gone: the kernel holds it (state D, a disk or a "
            f"network that does not answer; see /proc/{child.pid}/stack)"
        )
        return [Tell("actor.unkillable", child.name, text, child.ladder.times(now))]
    what = "start" if child.state is ChildState.STARTING else "stop"
    text = f"{child.name} did not {what} in time"
    return _climb(child, Rung.KILL, "actor.killed", text, now)


def _climb(child: Child, rung: Rung, what: str, text: str, now: float) -> list[Effect]:
    before = child.ladder.times(now)
    child.ladder.climb(rung, now)
    if rung is Rung.KILL:
        child.due_at = now + KILL_CONFIRM_S
    return [Tell(what, child.name, text, before), Signal(child.name, child.epoch, rung.signal)]
