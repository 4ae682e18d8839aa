"""``noyau status``: how the system and each of its processes does."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from noyau.options import AsJson, RunFolder
from noyau.terminal import run
from protocol.client import Client
from protocol.lifecycle import Health
from protocol.messages.supervisor import ActorStatus, Status

COLOURS = {Health.HEALTHY: "green", Health.DEGRADED: "yellow", Health.UNHEALTHY: "red"}
EXIT_UNHEALTHY = 1


def status(
    run_folder: RunFolder = None,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it, twice a second, until Ctrl-C.")
    ] = False,
) -> None:
    """Show health, process and restarts of every actor.

    Ends with 0 when the system answers and is not unhealthy, 1 when it is unhealthy, 3 when
    nothing is running.
    """
    run(lambda: _status(run_folder, as_json, watch))


async def _status(run_folder: RunFolder, as_json: bool, watch: bool) -> int:
    console = Console()
    async with Client.connect(run_folder) as client:
        found = await client.status()
        if watch and not as_json:
            with Live(table(found), console=console, auto_refresh=False) as live:
                while True:
                    await asyncio.sleep(0.5)
                    live.update(table(await client.status()), refresh=True)
        if as_json:
            print(found.model_dump_json(indent=2))
        else:
            console.print(table(found))
    return EXIT_UNHEALTHY if found.health is Health.UNHEALTHY else 0


def table(found: Status) -> RenderableType:
    """The status as people read it."""
    head = Text.assemble(
        ("noyau ", "bold"), found.version, " is ", (found.health.value, COLOURS[found.health]),
        f": {found.reason}" if found.reason else "", (f" · profile {found.profile}", "dim"),
    )  # fmt: skip
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("process", "pid", "state", "health", "restarts", "up", "memory", "doing"):
        rows.add_column(name, style="bold" if name == "process" else None, header_style="dim",
                        justify="right" if name in ("pid", "restarts", "up", "memory") else "left",
                        no_wrap=name != "doing")  # fmt: skip
    for actor in found.actors:
        rows.add_row(
            actor.name, str(actor.pid or "-"), actor.state.value,
            Text(actor.health.value, COLOURS[actor.health]), str(actor.restarts),
            _age(actor.uptime_s), _size(actor.rss_bytes), _doing(actor),
        )  # fmt: skip
    others = {"spawner": found.spawner, "supervisor": found.supervisor}
    if found.guard.pid or found.guard.restarts:
        others["guard"] = found.guard
    for name, process in others.items():
        rows.add_row(name, str(process.pid or "-"), "running" if process.pid else "starting", "",
                     str(process.restarts), _age(process.uptime_s), "", "")  # fmt: skip
    return Group(head, rows)


def _doing(actor: ActorStatus) -> str:
    if actor.reason:
        return actor.reason
    activity = actor.activity
    if activity.total and activity.unit == "bytes":
        return f"{activity.what}: {100 * activity.done // activity.total} %"
    if activity.total:
        return f"{activity.what}: {activity.done} of {activity.total} {activity.unit}"
    return activity.what


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f} MB"
