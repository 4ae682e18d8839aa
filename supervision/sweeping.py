"""Kills what a dead spawner left behind, before the next one is started.

Its actors die with it by their parent-death signal; what they had started themselves comes to the
supervisor, a sub-reaper, and would live on beside the next incarnations.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection

from supervision.processes import children_of

ROUND_S = 0.005
"""Between two rounds. A killed process takes some milliseconds to give its memory back."""
SWEEP_S = 2.0
"""Only a process that is stuck in the kernel (state D) takes so long, and nobody can wait for
that."""
LEAST_ROUNDS = 20
"""However late it is: this process may have been paused meanwhile."""


async def sweep(kept: Callable[[], Collection[int]], timeout_s: float = SWEEP_S) -> list[int]:
    """SIGKILL and reap every child of this process but those kept, until there is none. Returns the
    pids of those that are still there after ``timeout_s``."""
    loop = asyncio.get_running_loop()
    until, rounds = loop.time() + timeout_s, 0
    clean = False
    while True:
        left = _kill_all_but(kept())
        rounds += 1
        # Seen twice: while some end, others may be missing from the list.
        if (clean and not left) or (loop.time() >= until and rounds >= LEAST_ROUNDS):
            return left
        clean = not left
        await asyncio.sleep(ROUND_S)


def _kill_all_but(kept: Collection[int]) -> list[int]:
    left = [pid for pid in children_of(os.getpid()) if pid not in kept]
    for pid in left:
        # It is a child that nobody has reaped, so the pid is surely its own.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)
    return left
