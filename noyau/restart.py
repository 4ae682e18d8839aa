"""``noyau restart``: drain one actor and start it again; start what has failed."""

from __future__ import annotations

from typing import Annotated

import typer

from noyau.options import RunFolder
from noyau.terminal import errors, run
from protocol.client import Client
from protocol.messages.supervisor import Restart


def restart(
    name: Annotated[str, typer.Argument(help="The actor, as `noyau status` names it.")],
    run_folder: RunFolder = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait until it is ready.")
    ] = 60.0,
) -> None:
    """Restart one actor, and wait until it is ready.

    What it is working on is finished first; an answer that takes longer than the drain goes on
    with the new process. An actor that has `failed` is tried again.
    """
    run(lambda: _restart(run_folder, name, timeout))


async def _restart(run_folder: RunFolder, name: str, timeout_s: float) -> int:
    async with Client.connect(run_folder) as client:
        order = await client.ask(Restart(name=name))
        until = client.caller.clock.now() + timeout_s
        while True:
            entry = await client.caller.ready(name, until)
            if entry.epoch != order.previous_epoch:
                break
            await client.caller.wait_for_news(until)
    errors.print(f"{name} is ready as {entry.epoch}.")
    return 0
