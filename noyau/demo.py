"""``noyau demo``: a minute that shows what noyau is for, on the real model, and checks it.

It starts a system of its own, asks, remembers, kills processes with SIGKILL while they work, and
ends with a table of what was measured; with an exit code other than 0 when any of it did not
happen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from noyau.demonstration.answers import answer_through_a_kill, plain_answer
from noyau.demonstration.assistant import calculator, conversation, remember_and_recall
from noyau.demonstration.failover import SIMULATED_GPU, failover
from noyau.demonstration.report import Report
from noyau.demonstration.stage import stage
from noyau.options import Assignments, Config
from noyau.status import table as status_table
from noyau.terminal import run

KILLED = {
    "cpu_engine": "The same, and its engine is killed",
    "orchestrator": "Now the orchestrator is killed",
    "supervisor": "Now the supervisor, and with it every process",
}


def demo(
    config: Config = None,
    assignments: Assignments = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE.svg", help="Also save what is shown as a picture."),
    ] = None,
) -> None:
    """Show an assistant that survives kill -9: about a minute, on the real model.

    Runs beside a noyau that is up already, in folders of its own. Ends with 0 only when everything
    it promises was seen to happen.
    """
    console = Console(record=record is not None, highlight=False, width=100 if record else None)
    run(lambda: _demo(console, config, assignments or [], record))


async def _demo(
    console: Console, config: Path | None, assignments: list[str], svg: Path | None
) -> int:
    report = Report(console)
    console.rule("[bold]noyau: an assistant that survives kill -9")
    console.print("[dim]starting; the first time, the models (93 and 83 MB) are fetched …[/]")
    async with stage(config, assignments, report) as client:
        console.print(status_table(await client.status()))
        await plain_answer(client, report)
        for victim, title in KILLED.items():
            await answer_through_a_kill(client, report, victim, title)
        await calculator(client, report)
        await remember_and_recall(client, report)
        await conversation(client, report)
        console.print()
        console.print(status_table(await client.status()))
    report.title("A GPU dies in the middle of an answer (a simulated one; its words mean nothing)")
    async with stage(config, [*assignments, *SIMULATED_GPU], report) as client:
        await failover(client, report)
    report.show()
    if svg is not None:
        console.save_svg(str(svg), title="noyau demo")
    return 1 if report.failures else 0
