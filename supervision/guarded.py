"""The supervisor's end of its guard: when that dies, another one is started that adopts us.

The next guard is a child of the supervisor, in a session of its own. It holds the reading end of
a pipe: the kernel closes the writing end with the supervisor, however that ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from supervision.guard import ADOPT, STOPPING
from supervision.restart import Again, Exit, RestartPolicy


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which of all supervisors and guards since the first start these are."""

    arguments: tuple[str, ...] = ()
    """What the supervisor was started with, without what a guard adds."""
    guard: int = 0
    """Process id; 0 runs without a guard."""
    restarts: int = 0
    """Supervisors before this one."""
    guard_restarts: int = 0


class GuardKeeper:
    """Sees to it that there is a guard."""

    def __init__(
        self,
        lineage: Lineage,
        policy: RestartPolicy,
        now: Callable[[], float],
        tell: Callable[[str, str], None],
    ) -> None:
        """``tell`` takes an event's name and its text for people."""
        self._lineage = lineage
        self._policy = policy
        self._now = now
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._pidfd = -1
        self._is_child = False
        self._pipe = -1
        self._stopped = False
        self.pid: int | None = lineage.guard or None
        """None while there is none."""
        self.restarts = lineage.guard_restarts
        self.since = now()
        """When the present guard was first seen; monotonic seconds."""

    def start(self) -> None:
        """Watch the guard that there is."""
        if self.pid is None:
            return
        if os.getppid() != self.pid:
            # Gone before we could look.
            self._on_death()
        else:
            self._watch(self.pid)

    def _watch(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._on_death)

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

    def _replace(self) -> None:
        if self._stopped:
            return
        self.restarts += 1
        self.since = self._now()
        theirs, self._pipe = os.pipe2(os.O_CLOEXEC)
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

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, where there is one."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, number)

    def stop(self, code: int) -> None:
        """The supervisor ends with this exit code: tell a guard that cannot wait for it."""
        self._stopped = True
        if self._pipe >= 0:
            try:
                os.write(self._pipe, bytes([code]))
            except BrokenPipeError:
                # Killed a moment ago: there is nobody to tell.
                return
