"""The supervisor's end of its guard: one that dies, or is stopped, is followed by one that adopts.

The next guard is a child of the supervisor, in a session of its own. Each guard holds the reading
end of a pipe, on which the event loop here shows that it turns (`supervision.listening`). A guard
that does not read costs nothing: the pipe never blocks, and takes the beats of hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from configs import RestartSettings
from supervision.guard import ADOPT, STOPPING
from supervision.listening import BEAT
from supervision.restart import Again, Exit, RestartPolicy
from supervision.silence import BEAT_S


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which of all supervisors and guards since the first start these are."""

    arguments: tuple[str, ...] = ()
    """What the supervisor was started with, without what a guard adds."""
    guard: int = 0
    """Process id; 0 runs without a guard."""
    pipe: int | None = None
    """The descriptor that it listens to."""
    restarts: int = 0
    """Supervisors before this one."""
    guard_restarts: int = 0


class GuardKeeper:
    """Sees to it that there is a guard."""

    def __init__(
        self,
        lineage: Lineage,
        settings: RestartSettings,
        now: Callable[[], float],
        tell: Callable[[str, str], None],
    ) -> None:
        """``tell`` takes an event's name and its text for people."""
        self._lineage = lineage
        self._policy = RestartPolicy(settings, "permanent")
        self._now = now
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._pidfd = -1
        self._is_child = False
        self._pipe = -1
        if lineage.pipe is not None:
            self._pipe = lineage.pipe
            _keep_to_ourselves(self._pipe)
        self._beating: asyncio.TimerHandle | None = None
        self._killed = False
        self._stopped = False
        self.pid: int | None = lineage.guard or None
        """None while there is none."""
        self.restarts = lineage.guard_restarts
        self.since = now()
        """When the present guard was first seen; monotonic seconds."""

    def start(self) -> None:
        """Watch the guard that there is, and show it that we live."""
        if self.pid is None:
            return
        self._beat()
        if os.getppid() != self.pid:
            # Gone before we could look.
            self._on_death()
        else:
            self._watch(self.pid)

    def _beat(self) -> None:
        # First: whatever comes of this beat, the next one is due.
        self._beating = self._loop.call_later(BEAT_S, self._beat)
        self._write(BEAT)

    def _write(self, said: bytes) -> None:
        if self._pipe >= 0:
            # Killed a moment ago, or stopped long ago: there is nobody to tell, which is noticed in
            # other ways.
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._pipe, said)

    def _watch(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._on_death)

    def on_stopped(self) -> None:
        """It was seen to be stopped by a signal, so it guards nobody: kill it, and another one
        follows."""
        if self._pidfd >= 0 and not self._killed:
            self._killed = True
            text = "the guard was stopped by a signal (state T), and is killed"
            self._tell("guard.stopped", text)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _on_death(self) -> None:
        self._let_go()
        now = self._now()
        decision = self._policy.decide(now, Exit(), now - self.since)
        if isinstance(decision, Again):
            self._tell(
                "guard.died",
                "the guard died; another one follows. noyau goes on in the background: "
                "`noyau down` stops it",
            )
            self._loop.call_later(decision.after_s, self._replace)
        else:
            self._tell("guard.failed", "the guard died too often; noyau runs without one now")

    def _let_go(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._is_child and self.pid is not None:
            os.waitpid(self.pid, 0)
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        self.pid = None
        self._killed = False

    def _replace(self) -> None:
        if self._stopped:
            return
        self.restarts += 1
        self.since = self._now()
        theirs, self._pipe = os.pipe()
        _keep_to_ourselves(self._pipe)
        told = (os.getpid(), 3, self._lineage.restarts, self.restarts)
        self.pid = os.posix_spawn(
            sys.executable,
            [
                sys.executable, "-m", "supervision.guard", ADOPT + ",".join(map(str, told)),
                *self._lineage.arguments,
            ],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, 3),
            ],
            setsid=True,
            # Held back until it can pass them on: one that came while Python starts would end it.
            setsigmask=STOPPING,
            setsigdef=STOPPING,
        )  # fmt: skip
        os.close(theirs)
        self._is_child = True
        self._watch(self.pid)

    def reload(self, settings: RestartSettings) -> None:
        """Decide by these from now on."""
        self._policy.reload(settings, "permanent")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, where there is one."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, number)

    def stop(self, code: int) -> None:
        """The supervisor ends with this exit code: tell a guard that cannot wait for it."""
        self._stopped = True
        if self._beating is not None:
            self._beating.cancel()
        self._write(bytes([code]))


def _keep_to_ourselves(pipe: int) -> None:
    """Nobody that we start is to write on it, and it must never hold us up."""
    os.set_inheritable(pipe, False)
    os.set_blocking(pipe, False)
