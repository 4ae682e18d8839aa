"""Whether a process hangs: judged from what the kernel says of it and from its signs of life. Pure.

stopped
    State T, two looks in a row. SIGKILL at once; t, a debugger, is left alone.
silent
    Its event loop does not turn. Believed after the time of what it is doing: ``idle_s`` while it
    waits for work, ``stuck_s`` while it works, ``loading_s`` while it loads.
stuck
    It says that it works, and its threads do not get on, though its loop may turn. Believed after
    ``stuck_s`` where it does not compute either; else after ``slow_factor`` times the longest step
    that it took so far, which is at least ``stuck_s`` and at most ``working_s``.
suspected
    Who asked it gave it up, as it did not get on. If it neither does from then on nor lets go of
    that work, and does not compute either, that is believed after ``cancel_s``.

A silence is not believed while the process wants to run and is not let (it is starved, not hung),
or waits for a disk. Every age starts anew when this judge itself was late, and when all fell silent
together: then it was the machine that paused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from configs.sections import HangSettings
from protocol.signs import Doing, Signs
from supervision.looks import Look, Stops

BUSY_SHARE = 0.5
"""Who computes at least this share of a core is busy, with whatever."""
LEARNT_STEPS = 10
"""Steps of work after which the longest of them says something of how fast this machine is."""
LATE_LOOKS = 5
"""A look that comes so many intervals late says more of this process than of the others."""


@dataclass(frozen=True, slots=True)
class Hung:
    """It does not answer, and will not."""

    reason: str
    stopped: bool = False
    """By a signal: nothing milder than SIGKILL can end it."""
    loop_turns: bool = False
    """It still hears what it is told: its work alone is stuck."""


class Watch:
    """What is known of one incarnation. Times are monotonic seconds."""

    def __init__(self, settings: HangSettings, now: float) -> None:
        self._settings = settings
        self._stops = Stops()
        self._signs: Signs | None = None
        self._faults = 0
        self._loop_at = self._work_at = now
        self._cpu = self._cpu_at_loop = self._cpu_at_work = 0.0
        self._steps = 0
        self._longest_step_s = 0.0
        self.showed_life = False
        """Since every age was nothing."""
        self._suspected_at: float | None = None

    def suspect(self, now: float) -> None:
        """Somebody who asked it gave it up."""
        self._suspected_at = now

    def reload(self, settings: HangSettings) -> None:
        """Judge by these from now on."""
        self._settings = settings

    def start_anew(self, now: float) -> None:
        """Every age is nothing again."""
        self.showed_life = False
        self._suspected_at = None
        self._loop_at = self._work_at = now
        self._cpu_at_loop = self._cpu_at_work = self._cpu
        self._stops.start_anew()

    @property
    def shows(self) -> bool:
        """Whether it has a page of signs, as actors do: who has none is never quiet."""
        return self._signs is not None

    def silence(self, now: float) -> float:
        """Seconds since its event loop last turned, as far as it shows."""
        return now - self._loop_at

    @property
    def step_budget_s(self) -> float:
        """Seconds that a step may take while it computes: learnt from those that were taken."""
        settings = self._settings
        if self._steps < LEARNT_STEPS:
            return settings.working_s
        learnt = settings.slow_factor * self._longest_step_s
        return min(settings.working_s, max(settings.stuck_s, learnt))

    def look(self, now: float, look: Look, signs: Signs | None) -> Hung | None:
        """One look at it. ``signs``: None where it has no page (yet)."""
        self._cpu = look.cpu_s
        if look.state == "t":
            # Somebody looks at it with a debugger, and may do so for hours.
            self.start_anew(now)
            return None
        if self._stops.look(look.state):
            return Hung("it was stopped by a signal (state T)", stopped=True)
        if look.state == "T" or signs is None:
            return None
        self._take(now, look, signs)
        return self._silent(now, look, signs) or self._stuck(now, look, signs)

    def _take(self, now: float, look: Look, signs: Signs) -> None:
        before = self._signs or Signs(0.0, 0, signs.doing)
        loads = signs.doing is Doing.LOADING and look.faults != self._faults
        if signs.beat_at != before.beat_at or loads:
            self._loop_at, self._cpu_at_loop = now, look.cpu_s
            self.showed_life = True
            if signs.doing is Doing.IDLE:
                # It had let go of that work before it was suspected.
                self._suspected_at = None
        if signs.progress != before.progress:
            if signs.doing is Doing.WORKING and before.doing is Doing.WORKING:
                self._steps += 1
                self._longest_step_s = max(self._longest_step_s, now - self._work_at)
            # Whoever gets on is alive, loop or no loop.
            self._loop_at, self._cpu_at_loop = now, look.cpu_s
            self._work_at, self._cpu_at_work = now, look.cpu_s
            self._suspected_at = None
        if signs.doing is not before.doing:
            self._work_at, self._cpu_at_work = now, look.cpu_s
            self._suspected_at = None
        self._signs, self._faults = signs, look.faults

    def _silent(self, now: float, look: Look, signs: Signs) -> Hung | None:
        patience = {
            Doing.IDLE: self._settings.idle_s,
            Doing.LOADING: self._settings.loading_s,
            Doing.WORKING: self._settings.stuck_s,
        }[signs.doing]
        silence, used = now - self._loop_at, look.cpu_s - self._cpu_at_loop
        if self._is_suspect(now, look, used, silence):
            patience = min(patience, self._settings.cancel_s)
        if silence <= patience or look.excuses(used, silence):
            return None
        how = "computes" if _computes(look, used, silence) else "waits for something"
        return Hung(f"its event loop has not turned for {silence:.1f} s; it {how}")

    def _stuck(self, now: float, look: Look, signs: Signs) -> Hung | None:
        if signs.doing is not Doing.WORKING:
            return None
        silence, used = now - self._work_at, look.cpu_s - self._cpu_at_work
        computes = _computes(look, used, silence)
        patience = self.step_budget_s if computes else self._settings.stuck_s
        if self._is_suspect(now, look, used, silence):
            patience = min(patience, self._settings.cancel_s)
        if silence <= patience or look.excuses(used, silence):
            return None
        how = "though it computes" if computes else "and it does not compute either"
        return Hung(f"its work has not got on for {silence:.1f} s, {how}", loop_turns=True)

    def _is_suspect(self, now: float, look: Look, used_s: float, silence_s: float) -> bool:
        """Whether it had its time since it was suspected, and does nothing at all."""
        since = self._suspected_at
        if since is None or now - since < self._settings.cancel_s:
            return False
        return not _computes(look, used_s, silence_s)


def _computes(look: Look, used_s: float, silence_s: float) -> bool:
    """Whether it is busy, with whatever; on a machine that is full it gets less than it wants."""
    return look.state == "R" or used_s >= BUSY_SHARE * silence_s


class Watchman:
    """Judges all of them, and itself."""

    def __init__(self, settings: HangSettings) -> None:
        self._settings = settings
        self._watches: dict[str, Watch] = {}
        self._looked_at: float | None = None
        self._pardoned = False

    def reload(self, settings: HangSettings) -> None:
        """Judge by these from now on."""
        self._settings = settings
        for watch in self._watches.values():
            watch.reload(settings)

    def suspect(self, key: str, now: float) -> None:
        """Somebody who asked this one gave it up."""
        if key in self._watches:
            self._watches[key].suspect(now)

    def look(
        self, now: float, seen: Iterable[tuple[str, Look | None, Signs | None]]
    ) -> list[tuple[str, Hung]]:
        """One look at everybody there is, by key; those that hang, and why. Who has no `Look` is
        there, and was not asked about this time."""
        everybody = list(seen)
        keys = {key for key, _, _ in everybody}
        self._watches = {key: watch for key, watch in self._watches.items() if key in keys}
        interval = self._settings.look_interval_s
        if self._looked_at is not None and now - self._looked_at > LATE_LOOKS * interval:
            self._start_anew(now)
        self._looked_at = now
        found = []
        for key, look, signs in everybody:
            watch = self._watches.get(key)
            if watch is None:
                watch = self._watches[key] = Watch(self._settings, now)
            hung = watch.look(now, look, signs) if look is not None else None
            if hung is not None:
                found.append((key, hung))
        return self._unless_the_machine_paused(now, found)

    def _unless_the_machine_paused(
        self, now: float, found: list[tuple[str, Hung]]
    ) -> list[tuple[str, Hung]]:
        watches = [watch for watch in self._watches.values() if watch.shows]
        if any(watch.showed_life for watch in watches):
            self._pardoned = False
        all_quiet = all(watch.silence(now) > self._settings.idle_s for watch in watches)
        if len(watches) < 2 or not all_quiet or self._pardoned:
            return found
        # Once: should they really hang all together, that shows the second time.
        self._pardoned = True
        self._start_anew(now)
        return [(key, hung) for key, hung in found if hung.stopped]

    def _start_anew(self, now: float) -> None:
        for watch in self._watches.values():
            watch.start_anew(now)
