"""``noyau demo``: a minute that shows what noyau is for, on the real model, and checks it.

It starts a system of its own, asks, kills processes with SIGKILL while they answer, and ends with
a table of what was measured; with an exit code other than 0 when any of it did not happen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from configs import Settings, load_settings
from noyau.options import Assignments, Config
from noyau.processes import alive, processes_of
from noyau.starting import wait_until_up
from noyau.status import table as status_table
from noyau.terminal import fail, run
from noyau.up import guard_command
from protocol.client import Client
from protocol.errors import EngineFailed, NotRunning, NoyauError
from protocol.lifecycle import SETTLED
from protocol.messages.engine import ChatMessage
from protocol.messages.orchestrator import Answered, Query
from protocol.messages.supervisor import Status

QUESTION = "Why is the sky blue?"
KILL_AFTER_CHARACTERS = 120
"""Far enough into the answer to be seen, early enough that most of it comes after the kill."""


@dataclass(slots=True)
class Told:
    """One answer, as the demo saw it arrive."""

    text: str = ""
    end: Answered | None = None
    before: Status | None = None
    killed_pid: int | None = None
    longest_gap_s: float = 0.0
    took_s: float = 0.0


@dataclass(slots=True)
class Report:
    """What was checked and measured."""

    console: Console
    measured: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def check(self, what: str, held: bool) -> None:
        """Show one promise and whether it was kept."""
        self.console.print(f"  [green]✓[/] {what}" if held else f"  [red]✗ {what}[/]")
        if not held:
            self.failures.append(what)

    def measure(self, what: str, value: str) -> None:
        """Keep a figure for the table at the end."""
        self.measured.append((what, value))


def demo(
    config: Config = None,
    assignments: Assignments = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE.svg", help="Also save what is shown as a picture."),
    ] = None,
) -> None:
    """Show an answer that survives kill -9: about a minute, on the real model.

    Runs beside a noyau that is up already, in a run folder of its own. Ends with 0 only when
    everything it promises was seen to happen.
    """
    console = Console(record=record is not None, highlight=False, width=100 if record else None)
    folder = Path(tempfile.mkdtemp(prefix="noyau-demo-", dir="/tmp"))
    given = [*(assignments or []), f"run.folder={folder}"]
    try:
        settings = load_settings(file=config, assignments=given)
        run(lambda: _demo(console, settings, guard_command(config, given), record))
    except NoyauError as error:
        fail(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _demo(console: Console, settings: Settings, command: list[str], svg: Path | None) -> int:
    report = Report(console)
    console.rule("[bold]noyau: an answer that survives kill -9")
    async with _system(command, settings, report) as client:
        plain = await _tell(
            client, report, "1. A question, answered by a language model on this CPU"
        )
        await _kill_in_the_middle(
            client, report, "cpu_engine", "2. The same, and its engine is killed"
        )
        await _kill_in_the_middle(
            client, report, "orchestrator", "3. Now the orchestrator is killed"
        )
        await _kill_in_the_middle(
            client, report, "supervisor", "4. Now the supervisor, and with it every process"
        )
        assert plain.end is not None
        console.print(status_table(await client.status()))
    _show_measured(report)
    if svg is not None:
        console.save_svg(str(svg), title="noyau demo")
    return 1 if report.failures else 0


@contextlib.asynccontextmanager
async def _system(
    command: list[str], settings: Settings, report: Report
) -> AsyncGenerator[Client, None]:
    """Start a noyau, wait until it is up, and stop it at the end."""
    report.console.print("[dim]starting; the first time, the model (93 MB) is fetched …[/]")
    began = time.monotonic()
    guard = _start(command)
    try:
        async with await _connect(settings, guard) as client:
            found = await wait_until_up(client, report.console)
            report.measure("start to all ready", f"{time.monotonic() - began:.2f} s")
            for actor in found.actors:
                if actor.state not in SETTLED:
                    raise EngineFailed(f"{actor.name} could not start: {actor.reason}")
            report.console.print(status_table(found))
            yield client
            everything = processes_of(await client.status())
    finally:
        guard.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(20)
    report.check("stopped in order, nothing left running", not alive(everything))


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _connect(settings: Settings, guard: subprocess.Popen[bytes]) -> Client:
    until = time.monotonic() + 30
    while True:
        with contextlib.suppress(NotRunning):
            return await Client.connect(settings.run.folder).open()
        if guard.poll() is not None or time.monotonic() > until:
            raise NotRunning(
                "the system did not start; run `noyau up` with the same settings to see why"
            )
        await asyncio.sleep(0.05)


async def _tell(
    client: Client,
    report: Report,
    title: str,
    in_the_middle: Callable[[], int] | None = None,
) -> Told:
    """Stream one answer to the terminal; ``in_the_middle`` is called once."""
    console = report.console
    console.print(f"\n[bold]{title}[/]\n[cyan]> {QUESTION}[/]")
    told, began = Told(before=await client.status()), time.monotonic()
    query = Query(
        messages=[ChatMessage(role="user", content=QUESTION)], temperature=0, max_tokens=160
    )
    last, style = began, "white"
    async with client.stream(query, timeout_s=60) as stream:
        async for piece in stream:
            now = time.monotonic()
            if told.text:
                told.longest_gap_s = max(told.longest_gap_s, now - last)
            last = now
            told.text += piece.text
            console.print(piece.text, end="", style=style, markup=False, soft_wrap=True)
            if in_the_middle is not None and len(told.text) >= KILL_AFTER_CHARACTERS:
                told.killed_pid = in_the_middle()
                in_the_middle = None
                console.print(f"[bold red]⟨kill -9 {told.killed_pid}⟩[/]", end="", soft_wrap=True)
                style = "green"
    console.print()
    told.end, told.took_s = stream.end, time.monotonic() - began
    if told.killed_pid is None and told.end is not None:
        first = told.end.first_token_ms or 0.0
        report.check("the answer is complete", bool(told.text) and told.end is not None)
        report.measure("first text after", f"{first:.0f} ms")
        report.measure("tokens per second", f"{told.end.engines[-1].tokens_per_s:.0f}")
    return told


async def _kill_in_the_middle(client: Client, report: Report, victim: str, title: str) -> None:
    """Ask, kill ``victim`` while the answer streams, and check all that must follow."""
    before = await client.status()
    pid = _pid(before, victim)

    def kill() -> int:
        os.kill(pid, signal.SIGKILL)
        return pid

    told = await _tell(client, report, title, kill)
    assert told.end is not None
    report.check(
        f"the answer went on and is complete ({len(told.text)} characters, green: after the kill)",
        told.killed_pid == pid and len(told.text) > 0,
    )
    seams = told.end.seams
    report.check(
        "its metadata tells the seam: "
        + "; ".join(f"{s.lost} lost at character {s.position}" for s in seams),
        len(seams) >= 1,
    )
    after = await client.status()
    new = _pid(after, victim)
    report.check(f"{victim} is back: pid {pid} is now {new}, restarts {_restarts(after, victim)}",
                 new != pid and _restarts(after, victim) >= 1)  # fmt: skip
    report.measure(f"pause when {victim} was killed", f"{told.longest_gap_s * 1000:.0f} ms")


def _pid(found: Status, name: str) -> int:
    if name == "supervisor":
        return found.supervisor.pid or 0
    return next(actor.pid or 0 for actor in found.actors if actor.name == name)


def _restarts(found: Status, name: str) -> int:
    if name == "supervisor":
        return found.supervisor.restarts
    return next(actor.restarts for actor in found.actors if actor.name == name)


def _show_measured(report: Report) -> None:
    report.console.print()
    rows = Table(title="measured on this machine, just now", title_justify="left", box=None)
    rows.add_column("what")
    rows.add_column("value", justify="right", style="bold")
    for what, value in report.measured:
        rows.add_row(what, value)
    report.console.print(rows)
    if report.failures:
        report.console.print(f"[red]{len(report.failures)} promises were not kept.[/]")
    else:
        report.console.print("[green]Every promise was kept.[/]")
