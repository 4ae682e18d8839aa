"""``noyau down``: stop everything, in order."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

import psutil
import typer

from noyau.terminal import EXIT_ERROR, RunFolder, errors, run
from protocol.client import Client
from protocol.messages.supervisor import Shutdown, Status


def down(
    run_folder: RunFolder = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the end.")
    ] = 30.0,
) -> None:
    """Stop noyau: take nothing new, finish what is running, end every process."""
    run(lambda: _down(run_folder, timeout))


async def _down(run_folder: RunFolder, timeout_s: float) -> int:
    async with Client.connect(run_folder) as client:
        before = await client.status()
        await client.ask(Shutdown())
    left = await _wait(before, timeout_s)
    if left:
        errors.print(f"[red]noyau:[/] still running after {timeout_s:g} s: {left}")
        return EXIT_ERROR
    errors.print("noyau is stopped.")
    return 0


async def _wait(before: Status, timeout_s: float) -> list[int]:
    """Wait for all of its processes; returns the pids of those that are left."""
    everyone = [before.guard.pid, before.supervisor.pid, before.spawner.pid]
    everyone += [actor.pid for actor in before.actors]
    processes = []
    for pid in everyone:
        if pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(pid))
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout_s)
    return [process.pid for process in alive]
