"""``noyau up``: start everything, and keep it running.

Imports as little as it can: the guard that this process becomes starts the supervisor, and the
sooner it does the sooner everything is up. What shows the start is imported beside that.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from noyau.options import Assignments, Config


def up(
    config: Config = None,
    assignments: Assignments = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", help="Go on in the background, and return when it is up."),
    ] = False,
    guard: Annotated[
        bool,
        typer.Option(
            "--guard/--no-guard",
            help="Leave a parent that restarts a supervisor that crashed or hangs. Without it "
            "systemd does that, which is told how noyau does.",
        ),
    ] = True,
) -> None:
    """Start noyau and keep it running, in this terminal until Ctrl-C.

    The first start fetches the default language model (93 MB). Later ones take about a second.
    """
    given = assignments or []
    command = guard_command(config, given) if guard else supervisor_command(config, given)
    if detach:
        from noyau.starting import start_detached

        start_detached(command, config, given)
    if not guard:
        # The same process throughout, which is the one that a service manager started.
        os.execv(command[0], command)
    # This process becomes the guard, which needs nearly no memory; what shows the start is a
    # grandchild, so that it is nobody's to wait for.
    if os.fork() == 0:
        if os.fork() == 0:
            from noyau.starting import show_start_in_foreground

            show_start_in_foreground(config, given)
        os._exit(0)
    os.wait()
    os.execv(command[0], command)


def guard_command(config: Path | None, assignments: list[str]) -> list[str]:
    """The command line of the guard that starts a supervisor with these settings."""
    return [sys.executable, "-m", "supervision.guard", *_settings(config, assignments)]


def supervisor_command(config: Path | None, assignments: list[str]) -> list[str]:
    """The command line of a supervisor with these settings that has no guard."""
    return [sys.executable, "-m", "supervisor", "--no-guard", *_settings(config, assignments)]


def _settings(config: Path | None, assignments: list[str]) -> list[str]:
    command = []
    if config is not None:
        command += ["--config", str(config)]
    for assignment in assignments:
        command += ["--set", assignment]
    return command
