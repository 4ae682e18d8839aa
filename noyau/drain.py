"""``noyau drain``: have an actor finish what it does, end, and stay stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from noyau.options import RunFolder
from noyau.terminal import EXIT_ERROR, errors, run
from protocol.client import Client
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import Drain


def drain(
    name: Annotated[str, typer.Argument(help="The actor, as `noyau status` names it.")],
    run_folder: RunFolder = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait until it has ended.")
    ] = 60.0,
) -> None:
    """Stop one actor in order: it takes nothing more, finishes what it does, and ends.

    It stays stopped until `noyau restart NAME` starts it again; meanwhile the others do without.
    """
    run(lambda: _drain(run_folder, name, timeout))


async def _drain(run_folder: RunFolder, name: str, timeout_s: float) -> int:
    async with Client.connect(run_folder) as client:
        await client.ask(Drain(name=name))
        until = client.caller.clock.now() + timeout_s
        while client.caller.clock.now() < until:
            # Nothing is known while the supervisor is away.
            entry = client.caller.directory.entries.get(name)
            if entry is not None and entry.state is ActorState.STOPPED:
                errors.print(f"{name} is drained; `noyau restart {name}` starts it again.")
                return 0
            await client.caller.wait_for_news(until)
    errors.print(f"[red]noyau:[/] {name} had not ended after {timeout_s:g} s; see `noyau status`")
    return EXIT_ERROR
