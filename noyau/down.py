"""``noyau down``: stop everything, in order."""

from __future__ import annotations

from typing import Annotated

import typer

from noyau.here import check_here
from noyau.options import RunFolder
from noyau.processes import processes_of, wait_until_gone
from noyau.terminal import EXIT_ERROR, errors, run
from protocol.client import Client
from protocol.messages.supervisor import Shutdown


def down(
    run_folder: RunFolder = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the end.")
    ] = 30.0,
) -> None:
    """Stop noyau: take nothing new, finish what is running, end every process."""
    run(lambda: _down(run_folder, timeout))


async def _down(run_folder: RunFolder, timeout_s: float) -> int:
    check_here(run_folder)
    async with Client.connect(run_folder) as client:
        everything = processes_of(await client.status())
        await client.ask(Shutdown())
    left = await wait_until_gone(everything, timeout_s)
    if left:
        errors.print(f"[red]noyau:[/] still running after {timeout_s:g} s: {left}")
        return EXIT_ERROR
    errors.print("noyau is stopped.")
    return 0
