"""``noyau logs``: what every process wrote, in one order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from noyau.here import data_folder
from noyau.loglines import LEVELS, LogFiles, LogLine
from noyau.options import Assignments, Config, RunFolder
from noyau.terminal import run
from protocol.errors import InvalidRequest, NotFound

LOOK_S = 0.2


def logs(
    actors: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ACTOR]…", help="Only theirs, such as orchestrator.",
                       show_default=False),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on showing what comes, until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last.")] = 50,
    level: Annotated[
        str, typer.Option("--level", "-l", help=f"The least that is shown: {', '.join(LEVELS)}.")
    ] = "info",
    as_json: Annotated[
        bool, typer.Option("--json", help="The lines as they were written.")
    ] = False,
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
) -> None:  # fmt: skip
    """Show the logs of all processes in the order of their times.

    Each line carries the correlation id of the query it belongs to; `noyau ask --explain` says
    which id that is. Works whether noyau runs or not.
    """
    run(
        lambda: _logs(
            actors or [], follow, lines, level, as_json, run_folder, config, assignments or []
        )
    )


async def _logs(
    actors: list[str], follow: bool, lines: int, level: str, as_json: bool,
    run_folder: Path | None, config: Path | None, assignments: list[str],
) -> int:  # fmt: skip
    if level not in LEVELS:
        raise InvalidRequest(f"there is no level {level!r}; there are: {', '.join(LEVELS)}")
    folder = await data_folder(run_folder, config, assignments) / "logs"
    files = LogFiles(folder, actors)
    unknown = {*actors} - {*files.names()}
    if unknown:
        raise NotFound(
            f"there is no log of {', '.join(sorted(unknown))} in {folder}; there are: "
            f"{', '.join(files.names()) or 'none'}"
        )
    _show(files.latest(lines, level), as_json)
    while follow:
        await asyncio.sleep(LOOK_S)
        _show(files.more(level), as_json)
    return 0


def _show(lines: list[LogLine], as_json: bool) -> None:
    for line in lines:
        print(line.raw if as_json else line.readable(), flush=True)
