"""How a start is shown: what each actor does, until all are ready or one cannot be."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from configs import Settings, load_settings
from noyau.terminal import EXIT_ERROR, EXIT_SETUP, errors, fail, run
from protocol.client import Client
from protocol.errors import NotRunning, NoyauError
from protocol.lifecycle import SETTLED, ActorState, Health
from protocol.messages.supervisor import ActorStatus, Status

POLL_S = 0.1
CONNECT_S = 20.0
"""From the start of the processes to the supervisor's first answer: half a second, but a cold
disk has to read Python and its libraries."""


def show_start(
    settings: Settings,
    process: subprocess.Popen[bytes] | None = None,
    output: Path | None = None,
) -> NoReturn:
    """Show the start until everything is ready or cannot be, then end with the exit code.

    ``process`` and ``output`` are those of a system started in the background.
    """
    run(lambda: _show(settings, Console(stderr=True), process, output))


def show_start_in_foreground(config: Path | None, assignments: list[str]) -> NoReturn:
    """The same, for a system that is starting in this terminal. Wrong settings are told there by
    the supervisor itself, so nothing is said of them here."""
    try:
        settings = load_settings(file=config, assignments=assignments)
    except NoyauError:
        sys.exit(EXIT_SETUP)
    show_start(settings)


def start_detached(command: list[str], config: Path | None, assignments: list[str]) -> NoReturn:
    """Start the system in the background, in a session of its own, and show how it starts."""
    try:
        settings = load_settings(file=config, assignments=assignments)
    except NoyauError as error:
        fail(error)
    settings.data.logs_folder.mkdir(parents=True, exist_ok=True)
    output = settings.data.logs_folder / "up.out"
    with output.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    show_start(settings, process, output)


async def _show(
    settings: Settings,
    console: Console,
    process: subprocess.Popen[bytes] | None,
    output: Path | None,
) -> int:
    began = time.monotonic()
    try:
        async with await _connect(settings, process) as client:
            found = await wait_until_up(client, console)
    except NotRunning as error:
        # In the foreground the supervisor has said why on this very terminal.
        if output is not None:
            errors.print(f"[red]noyau:[/] {escape(error.message)}; the end of {output}:")
            errors.print("".join(output.read_text(errors="replace").splitlines(True)[-5:]))
        return EXIT_SETUP
    bad = [a for a in found.actors if a.state not in SETTLED]
    for actor in bad:
        console.print(f"[red]{actor.name}[/] is {actor.state.value}: {escape(actor.reason)}")
    if bad:
        return EXIT_ERROR
    console.print(
        f"[green]noyau is up[/] after {time.monotonic() - began:.1f} s: "
        f"{', '.join(a.name for a in found.actors if a.state is ActorState.READY)}.\n"
        f'Ask: [bold]noyau ask "Why is the sky blue?"[/]   Stop: '
        f"[bold]{'noyau down' if output else 'Ctrl-C'}[/]",
        highlight=False,
    )
    return 0


async def _connect(settings: Settings, process: subprocess.Popen[bytes] | None) -> Client:
    """A client of the supervisor that is just starting. Raises `NotRunning`."""
    until = time.monotonic() + CONNECT_S
    while True:
        with contextlib.suppress(NotRunning):
            return await Client.connect(settings.run.folder).open()
        if process is not None and process.poll() is not None:
            raise NotRunning(f"noyau ended at once, with exit code {process.returncode}")
        if time.monotonic() > until:
            raise NotRunning(f"noyau did not answer within {CONNECT_S:g} s")
        await asyncio.sleep(POLL_S)


async def wait_until_up(client: Client, console: Console) -> Status:
    """Show what every actor does until all are READY, or one of them cannot be without help."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30),
               TextColumn("{task.fields[doing]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}
        while True:
            found = await client.status()
            for actor in found.actors:
                if actor.name not in tasks:
                    tasks[actor.name] = progress.add_task(actor.name, total=None, doing="")
                _show_row(progress, tasks[actor.name], actor)
            if all(a.state in SETTLED for a in found.actors) or _stuck(found):
                return found
            await asyncio.sleep(POLL_S)


def _show_row(progress: Progress, task: TaskID, actor: ActorStatus) -> None:
    activity = actor.activity
    if actor.state is ActorState.READY:
        progress.update(task, total=1, completed=1, doing="ready")
    elif actor.state is ActorState.UNAVAILABLE:
        progress.update(task, total=1, completed=1, doing=f"unavailable: {actor.reason}")
    elif actor.state is ActorState.STARTING and activity.total:
        doing = f"{activity.what} ({activity.done / 1e6:.0f} of {activity.total / 1e6:.0f} MB)"
        progress.update(task, total=activity.total, completed=activity.done, doing=doing)
    else:
        progress.update(task, total=None, doing=actor.reason)


def _stuck(found: Status) -> bool:
    """Whether something has failed, or cannot go on for a reason that a person should see."""
    return any(
        a.state is ActorState.FAILED
        or (a.state is ActorState.STARTING and a.health is Health.UNHEALTHY)
        for a in found.actors
    )
