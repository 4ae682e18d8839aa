"""``noyau events``: what happens, as it happens."""

from __future__ import annotations

import datetime
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from noyau.options import AsJson, RunFolder
from noyau.terminal import errors, run
from protocol.client import Client
from protocol.messages.supervisor import Happened, WatchEvents

FOR_EVER_S = 10 * 365 * 86_400.0
COLOURS = {"actor.died": "yellow", "actor.hung": "yellow", "actor.failed": "red",
           "actor.killed": "yellow", "actor.ready": "green"}  # fmt: skip


def events(
    prefix: Annotated[
        str,
        typer.Argument(metavar="[PREFIX]", help="Only those whose name begins so, as asset."),
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow/--once", "-f", help="Until Ctrl-C, or until the first.")
    ] = True,
    run_folder: RunFolder = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what happens to the actors from now on: deaths, hangs, restarts, downloads.

    What happened before is in `noyau logs supervisor`. With `--json`, one object a line.
    """
    run(lambda: _events(prefix, follow, run_folder, as_json))


async def _events(prefix: str, follow: bool, run_folder: RunFolder, as_json: bool) -> int:
    console = Console(highlight=False)
    async with (
        Client.connect(run_folder) as client,
        client.stream(WatchEvents(prefix=prefix), timeout_s=FOR_EVER_S) as stream,
    ):
        losses = 0
        async for batch in stream:
            for loss in stream.resumed[losses:]:
                errors.print(f"{loss}; what happened until now was missed", style="dim")
            losses = len(stream.resumed)
            for event in batch.events:
                _show(event, console, as_json)
            if batch.dropped:
                errors.print(f"{batch.dropped} more were missed", style="dim")
            if batch.events and not follow:
                return 0
    errors.print("noyau is stopping.", style="dim")
    return 0


def _show(event: Happened, console: Console, as_json: bool) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if as_json:
        print(json.dumps({"at": now.isoformat(), **event.model_dump()}), flush=True)
        return
    colour = COLOURS.get(event.what, "cyan")
    moment = f"{now.astimezone():%H:%M:%S.%f}"[:-3]
    console.print(Text.assemble((f"{moment} ", "dim"), (f"{event.what:16} ", colour), event.text))
