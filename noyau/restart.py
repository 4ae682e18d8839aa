"""``noyau restart``: drain actors and start them again; start what has failed."""

from __future__ import annotations

from typing import Annotated

import typer

from noyau.options import RunFolder
from noyau.terminal import EXIT_USAGE, errors, run
from protocol.client import Client
from protocol.errors import ActorUnavailable
from protocol.lifecycle import SETTLED, ActorState
from protocol.messages.supervisor import DirectoryEntry, Restart


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
        entries = client.caller.directory.entries
        # Of all, those that were drained by hand are not meant.
        meant = names or [n for n, one in entries.items() if one.state is not ActorState.STOPPED]
        previous = (await client.ask(Restart(names=names))).previous
        for name in [name for name in previous if name in meant]:
            entry = await _next_incarnation(client, name, previous[name], timeout_s)
            what = entry.state.value + (f" ({entry.reason})" if entry.reason else "")
            errors.print(f"{name} is {what} as {entry.epoch}.", markup=False, soft_wrap=True)
    return 0


async def _next_incarnation(
    client: Client, name: str, previous: str, timeout_s: float
) -> DirectoryEntry:
    """Its entry when it is back. Raises `ActorUnavailable` when it will not be, or not in time:
    those whose turn had not come are left as they are."""
    clock, entries = client.caller.clock, client.caller.directory.entries
    until = clock.now() + timeout_s
    while clock.now() < until:
        # Nothing is known while the supervisor is away.
        entry = entries.get(name)
        if entry is not None and entry.state in SETTLED and entry.epoch != previous:
            return entry
        if entry is not None and entry.state is ActorState.FAILED and entry.reason:
            raise ActorUnavailable(f"{name} failed: {entry.reason}", name=name)
        await client.caller.wait_for_news(until)
    raise ActorUnavailable(
        f"{name} was not ready after {timeout_s:g} s; `noyau status` shows what it does", name=name
    )
