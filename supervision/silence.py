"""Whether a supervisor fell silent, as its guard judges it. Pure, and standard library only.

The supervisor's event loop writes a beat to a pipe at short intervals. As long as beats come nobody
looks any closer; without one the guard looks at the process:

stopped
    State T, two looks in a row. It is to be killed at once; t, a debugger, is left alone.
silent
    Its event loop stands still for longer than the bound. Not believed while it waits for a disk,
    or wants to run and is not let.

The age of a silence starts anew when the guard itself was late: then both were held up.
"""

from __future__ import annotations

from supervision.looks import Look, Stops

BEAT_S = 0.25
"""Between two beats of the supervisor: one that was stopped is found within a second, and four
wake-ups a second cost the guard nothing."""
QUIET_S = 0.5
"""Without a beat for so long, the process is looked at: two that were missed."""
AGAIN_S = 0.1
"""From a look at which it seemed to be stopped to the next one."""
STARTING_S = 120.0
"""To the first beat: the imports take half a second, and half a minute from a cold, slow disk."""
SILENT_S = 15.0
"""From one beat to the next. The loop never waits for anything, so this is already a wedged one;
whatever swamps a machine for so long shows as D, or as R without CPU time."""
LATE_S = 2.0
"""The guard itself is late when it comes to look so long after the last time: its own waits are
a quarter of that at most."""


class Silence:
    """What is heard of one supervisor, and whether that is too little. Times are monotonic
    seconds."""

    def __init__(self, now: float) -> None:
        """It was started, or adopted, at ``now``."""
        self._stops = Stops()
        self._bound = STARTING_S
        self._since = self._awake_at = now
        self._cpu_s: float | None = None
        """What it had used when the silence was noticed."""

    @property
    def patience_s(self) -> float:
        """How long to wait for the next beat before a look."""
        return AGAIN_S if self._stops.suspected else QUIET_S

    def heard(self, now: float) -> None:
        """A beat came."""
        self._bound = SILENT_S
        self._start_anew(now)

    def _start_anew(self, now: float) -> None:
        self._since = self._awake_at = now
        self._cpu_s = None
        self._stops.start_anew()

    def look(self, now: float, look: Look) -> str | None:
        """No beat came, and the process looks like this; why it is to be killed, if it is."""
        if now - self._awake_at > LATE_S or look.state == "t":
            self._start_anew(now)
        self._awake_at = now
        if self._stops.look(look.state):
            return "it was stopped by a signal (state T)"
        if self._stops.suspected:
            return None
        if self._cpu_s is None:
            self._cpu_s = look.cpu_s
        silence = now - self._since
        if silence <= self._bound or look.excuses(look.cpu_s - self._cpu_s, silence):
            return None
        return f"its event loop has not turned for {silence:.0f} s"
