"""``noyau restart``: drain actors and start them again; start what has failed."""

from __future__ import annotations

from typing import Annotated

import typer

from noyau.options import RunFolder
from noyau.terminal import EXIT_ERROR, EXIT_USAGE, errors, run
from protocol.client import Client
from protocol.lifecycle import SETTLED, ActorState
from protocol.messages.supervisor import Restart


def restart(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]…", help="The actors, as `noyau status` names them.", show_default=False
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All actors but those that were drained.")
    ] = False,
    run_folder: RunFolder = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait until each is ready.")
    ] = 60.0,
) -> None:
    """Restart actors, and wait until they are ready.

    Several are restarted one after the other (a rolling restart), and none before the last one is
    back. What an actor is working on is finished first; an answer that takes longer than the drain
    goes on with the new process. An actor that has `failed`, or was drained, is started.
    """
    if bool(names) is everything:
        errors.print("noyau: name the actors to restart, or say --all", markup=False)
        raise typer.Exit(EXIT_USAGE)
    run(lambda: _restart(run_folder, names or [], timeout))


async def _restart(run_folder: RunFolder, names: list[str], timeout_s: float) -> int:
    async with Client.connect(run_folder) as client:
        order = await client.ask(Restart(names=names))
        waiting = dict(order.previous)
        if not names:
            # Those that were drained by hand are not meant.
            entries = client.caller.directory.entries
            for name in [n for n in waiting if entries[n].state is ActorState.STOPPED]:
                del waiting[name]
        until = client.caller.clock.now() + timeout_s
        while waiting:
            for name, previous in list(waiting.items()):
                entry = client.caller.directory.entries[name]
                if entry.state in SETTLED and entry.epoch != previous:
                    del waiting[name]
                    until = client.caller.clock.now() + timeout_s
                    what = entry.state.value + (f" ({entry.reason})" if entry.reason else "")
                    errors.print(f"{name} is {what} as {entry.epoch}.", markup=False)
                elif entry.state is ActorState.FAILED and entry.reason:
                    errors.print(f"[red]noyau:[/] {name} failed: {entry.reason}")
                    return _left(waiting, name)
            if waiting and client.caller.clock.now() >= until:
                late = ", ".join(waiting)
                errors.print(f"[red]noyau:[/] not ready in {timeout_s:g} s: {late}; "
                             "`noyau status` shows what they do")  # fmt: skip
                return EXIT_ERROR
            if waiting:
                await client.caller.wait_for_news(until)
    return 0


def _left(waiting: dict[str, str], failed: str) -> int:
    left = [name for name in waiting if name != failed]
    if left:
        errors.print(f"Left as they are: {', '.join(left)}.", markup=False)
    return EXIT_ERROR
