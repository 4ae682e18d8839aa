"""The guard's ear: waits for the end of a supervisor, and kills one that fell silent.

Between the two there is a pipe. What the supervisor writes to it, one byte at a time:

::

    255      a beat: its event loop turns
    0 … 254  it ends as it wants to, with this exit code

The end itself the kernel tells by a pidfd. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from supervision.looks import Eye
from supervision.processes import children_of
from supervision.silence import Silence

BEAT = b"\xff"


def say(text: str) -> None:
    """Tell whoever sits at the terminal."""
    # The terminal may be gone, and its end must not be the guard's.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"noyau: {text}\n")
        sys.stderr.flush()


class Listener:
    """Listens to one supervisor."""

    def __init__(self, pid: int, pipe: int, pidfd: int | None = None) -> None:
        """Takes over both descriptors; without a ``pidfd`` the supervisor is gone already."""
        os.set_blocking(pipe, False)
        self._pid = pid
        self._pipe = pipe
        self._pidfd = pidfd
        self._eye: Eye | None = None
        self.announced: int | None = None
        """The exit code that it said it would end with."""
        self.killed = False
        """Whether it fell silent, and was killed for it."""

    def wait(self) -> None:
        """Return when it has ended, by itself or because it was killed."""
        if self._pidfd is not None:
            self._listen(self._pidfd)
        self._hear()
        self._close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Harmless when it has ended."""
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _listen(self, pidfd: int) -> None:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self._pipe, select.POLLIN)
        silence = Silence(time.monotonic())
        while True:
            # Once killed it only has to end, which a process that waits for a disk does later.
            patience = None if self.killed else silence.patience_s * 1000
            found = [fd for fd, _ in poll.poll(patience)]
            if pidfd in found:
                return
            if self._pipe not in found:
                self._look(silence)
            elif self._hear():
                silence.heard(time.monotonic())
            else:
                # Closed, but it lives: from now on it is silent.
                poll.unregister(self._pipe)

    def _hear(self) -> bool:
        """Read what is there; whether there was anything."""
        heard = False
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self._pipe, 4096):
                heard = True
                for code in said.replace(BEAT, b""):
                    self.announced = code
        return heard

    def _look(self, silence: Silence) -> None:
        try:
            self._eye = self._eye or Eye(self._pid)
            look = self._eye.look()
        except (FileNotFoundError, ProcessLookupError):
            # It has just ended; the pidfd says so next.
            return
        reason = silence.look(time.monotonic(), look)
        if reason is not None:
            self._kill(reason)

    def _kill(self, reason: str) -> None:
        say(f"the supervisor hangs, and is killed: {reason}")
        self.killed = True
        below = [pid for pid in children_of(self._pid) if pid != os.getpid()]
        self.signal(signal.SIGKILL)
        # A spawner that was stopped as well would not hear that its parent is gone.
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _close(self) -> None:
        # Taken away first: a signal handler, which may come at any moment, uses the pidfd.
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)
        if self._eye is not None:
            self._eye.close()
        os.close(self._pipe)
