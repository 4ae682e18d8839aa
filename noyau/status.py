"""``noyau status``: how the system and each of its processes does."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from noyau.options import AsJson, RunFolder
from noyau.terminal import run
from protocol.client import Client
from protocol.errors import NoyauError
from protocol.lifecycle import ActorState, Health
from protocol.messages.orchestrator import BreakerStatus, GetRuntime, RuntimeStatus
from protocol.messages.supervisor import ActorStatus, ProcessStatus, Status

COLOURS = {Health.HEALTHY: "green", Health.DEGRADED: "yellow", Health.UNHEALTHY: "red"}
EXIT_UNHEALTHY = 1
ORCHESTRATOR = "orchestrator"
ASK_S = 2.0
_COLUMNS = ("process", "pid", "state", "health", "restarts", "up", "cpu", "memory", "threads",
            "files", "doing")  # fmt: skip
_VERBOSE = ("cpu", "threads", "files")
"""Left out where nobody asks: a line is to fit 100 columns with what matters most."""
_NUMBERS = ("pid", "restarts", "up", "cpu", "memory", "threads", "files")


def status(
    run_folder: RunFolder = None,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it, twice a second, until Ctrl-C.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With CPU, threads and open files.")
    ] = False,
) -> None:
    """Show health, process and restarts of every actor; below, the queue of questions, the engines
    and their circuit breakers.

    Ends with 0 when the system answers and is not unhealthy, 1 when it is unhealthy, 3 when
    nothing is running.
    """
    run(lambda: _status(run_folder, as_json, watch, verbose))


async def _status(run_folder: RunFolder, as_json: bool, watch: bool, verbose: bool) -> int:
    console = Console()
    async with Client.connect(run_folder) as client:
        found = await client.status()
        runtime = await _runtime(client, found)
        if watch and not as_json:
            shown = whole(found, runtime, verbose)
            with Live(shown, console=console, auto_refresh=False) as live:
                while True:
                    await asyncio.sleep(0.5)
                    found = await client.status()
                    runtime = await _runtime(client, found)
                    live.update(whole(found, runtime, verbose), refresh=True)
        if as_json:
            known = runtime.model_dump(mode="json") if runtime is not None else None
            print(json.dumps(found.model_dump(mode="json") | {"runtime": known}, indent=2))
        else:
            console.print(whole(found, runtime, verbose))
    return EXIT_UNHEALTHY if found.health is Health.UNHEALTHY else 0


async def _runtime(client: Client, found: Status) -> RuntimeStatus | None:
    """How questions are answered; None where nobody can say now."""
    states = {actor.name: actor.state for actor in found.actors}
    if states.get(ORCHESTRATOR) is not ActorState.READY:
        return None
    try:
        return await client.ask(GetRuntime(), timeout_s=ASK_S)
    except NoyauError:
        # It died just now, or hangs, as the table says; or it is of another version.
        return None


def whole(found: Status, runtime: RuntimeStatus | None, verbose: bool = False) -> RenderableType:
    """All that there is to see."""
    parts = [table(found, verbose)]
    if runtime is not None:
        parts += [Text(), engines_table(runtime)]
    return Group(*parts)


def engines_table(runtime: RuntimeStatus) -> RenderableType:
    """The queue, the engines and their circuit breakers, as people read them."""
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("engine", "device", "model", "answers", "breaker", "failures", "rejected"):
        right = name in ("failures", "rejected")
        rows.add_column(name, style="bold" if name == "engine" else None, header_style="dim",
                        justify="right" if right else "left")  # fmt: skip
    for engine in runtime.engines:
        there = engine.state is ActorState.READY
        rows.add_row(
            engine.name, engine.device or "-", engine.model or "-",
            f"{engine.running} of {engine.slots}" if there else engine.state.value,
            _breaker(engine.breaker), str(engine.breaker.failures), str(engine.breaker.rejections),
        )  # fmt: skip
    queue = runtime.queue
    waiting = ", ".join(f"{n} {name}" for name, n in queue.waiting.items() if n) or "nobody"
    refused = sum(queue.refused.values()) + queue.dropped
    line = Text.assemble(
        ("queue ", "bold"), f"{waiting} waiting; {queue.running} of {queue.slots} slots in use; "
        f"{queue.finished} finished, {refused} refused",
    )  # fmt: skip
    if queue.overloaded_for_s is not None:
        line.append(f"; overloaded: only high and critical, at most {queue.overloaded_for_s:.0f} s",
                    "yellow")  # fmt: skip
    if runtime.queries.state != "closed":
        line.append("; the breaker of queries is ", "yellow").append(_breaker(runtime.queries))
    if runtime.experts:
        line.append(f"; experts: {', '.join(runtime.experts)}", "dim")
    return Group(rows, line)


def _breaker(breaker: BreakerStatus) -> Text:
    state = breaker.state.replace("_", " ")
    if breaker.opens_for_s is not None:
        return Text(f"{state}, probed in {breaker.opens_for_s:.0f} s", "red")
    return Text(state, "green" if breaker.state == "closed" else "yellow")


def table(found: Status, verbose: bool = False) -> RenderableType:
    """The status as people read it. ``verbose``: with CPU, threads and open files."""
    head = Text.assemble(
        ("noyau ", "bold"), found.version, " is ", (found.health.value, COLOURS[found.health]),
        f": {found.reason}" if found.reason else "", (f" · profile {found.profile}", "dim"),
    )  # fmt: skip
    rows = Table(box=None, pad_edge=False, padding=(0, 1 if verbose else 2, 0, 0))
    for name in _COLUMNS:
        if verbose or name not in _VERBOSE:
            rows.add_column(name, style="bold" if name == "process" else None, header_style="dim",
                            justify="right" if name in _NUMBERS else "left",
                            no_wrap=name != "doing")  # fmt: skip
    for actor in found.actors:
        rows.add_row(
            actor.name, str(actor.pid or "-"), actor.state.value,
            Text(actor.health.value, COLOURS[actor.health]),
            *_figures(actor, verbose), _doing(actor),
        )  # fmt: skip
    others = {"spawner": found.spawner, "supervisor": found.supervisor}
    if found.guard.pid or found.guard.restarts:
        others["guard"] = found.guard
    for name, process in others.items():
        rows.add_row(name, str(process.pid or "-"), "running" if process.pid else "starting", "",
                     *_figures(process, verbose), "")  # fmt: skip
    return Group(head, rows)


def _figures(process: ActorStatus | ProcessStatus, verbose: bool) -> list[str]:
    figures = [str(process.restarts), _age(process.uptime_s)]
    if verbose:
        cpu = process.cpu_percent
        figures.append("-" if cpu is None else f"{cpu:.0f} %")
    figures.append(_size(process.rss_bytes))
    if verbose:
        figures += ["-" if n is None else str(n) for n in (process.threads, process.open_files)]
    return figures


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
