"""The verb: one fault, or a random run with load and an account of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from noyau.chaos.conducting import Conductor, is_engine
from noyau.chaos.kinds import KINDS, OWN, Kind
from noyau.chaos.observing import Fault
from noyau.chaos.plan import Step, counts, make_plan
from noyau.chaos.report import as_object, as_tables
from noyau.chaos.running import Run
from noyau.here import check_here
from noyau.options import AsJson, RunFolder
from noyau.terminal import EXIT_ERROR, EXIT_INTERRUPTED, errors, run
from protocol.client import Client
from protocol.endpoints import default_run_folder
from protocol.errors import NotFound
from protocol.lifecycle import ActorState

RANDOM = "run"
PATIENCE_S = 45.0
"""How long a single fault is watched: a hang is believed after 5 to 15 s, an order to end may be
ignored for as long as the user likes."""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def span(text: str) -> float:
    """Seconds, from ``90``, ``30s``, ``10m`` or ``1h``. Raises `typer.BadParameter`."""
    found = _SPAN.fullmatch(str(text).strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no span of time; write 30s, 10m or 1h")
    return float(found[1]) * _UNITS[found[2]]


def chaos(
    fault: Annotated[
        str | None,
        typer.Argument(
            metavar="[FAULT]",
            help=f"{', '.join(KINDS)}; or `run`, the random run.", show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Whom it hits: an actor, as `noyau status` names it; for kill and stop also "
            "supervisor, spawner and guard.", show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=0, max=600, help="How long slow_exit, slow_start, drop and "
                     "delay last."),
    ] = 2.0,
    requests: Annotated[
        int, typer.Option("--requests", min=1, help="How many requests fail, or answers of an "
                          "engine go wrong.")
    ] = 3,
    after: Annotated[
        int, typer.Option("--after", min=0, max=1_000_000, metavar="TOKENS",
                          help="At which token of its answers an engine goes wrong.")
    ] = 20,
    delay: Annotated[
        float, typer.Option("--delay", min=0, max=600, help="Seconds by which messages are late.")
    ] = 0.2,
    mib: Annotated[
        int, typer.Option("--mib", min=1, max=65_536, help="How much leaks, without a ceiling.")
    ] = 256,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, show_default=False,
                     help="Of the random run: the same seed is the same plan."),
    ] = None,
    for_: Annotated[
        float,
        typer.Option("--for", metavar="TIME", parser=span, help="How long it runs: 30s, 10m, 1h."),
    ] = "1m",  # type: ignore[assignment]
    clients: Annotated[
        int, typer.Option("--clients", min=1, max=1000, help="How many talk meanwhile.")
    ] = 8,
    every: Annotated[
        float,
        typer.Option("--every", metavar="TIME", parser=span,
                     help="From one fault to the next, about."),
    ] = "1s",  # type: ignore[assignment]
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="FAULT", help="Only such faults. May be repeated."),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="Hit only this one. May be repeated."),
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="Print the random run's faults, and do none of them.")
    ] = False,
    run_folder: RunFolder = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Break something on purpose, and see that it mends: for a noyau that nobody relies on.

    It is refused unless noyau was started with `noyau up --set chaos.allowed=true`.

    \b
        noyau chaos kill storage              one fault, and what follows
        noyau chaos stop cpu_engine
        noyau chaos fail orchestrator --requests 3
        noyau chaos garble gpu_engine --requests 1 --after 10
        noyau chaos --seed 1 --for 10m        random ones under load
        noyau chaos --seed 1 --for 10m --plan only show what that does

    \b
    The faults:
        kill        SIGKILL
        stop        SIGSTOP
        spin        an endless loop holds the interpreter
        stall       a native call that never returns holds it
        leak        memory grows over the actor's ceiling, if it has one
        slow_exit   an order to end is ignored for a while
        slow_start  it is killed, and its next start is put off
        fail        the next requests end in an error
        drop        replies and parts of streams are lost
        delay       what is sent comes late

    \b
    Of an engine, in the middle of its next answers:
        die            SIGKILL
        freeze         nothing more comes, though its process answers
        garble         garbage comes
        slow           it comes at a tenth of the speed
        out_of_memory  the device has no memory left
        nan            it computes with numbers that are none

    The random run asks questions, remembers, recalls and calls tools all the time, and keeps books:
    every request has to end in its answer or in one typed error. At the end it waits until all is
    healthy, looks for processes and files that were left, and says whether the budget held.

    Ends with 0 when it did (or one fault was recovered from), 1 when not, 130 after Ctrl-C, which
    ends a run with the report so far.
    """
    if fault is None or fault == RANDOM:
        if name is not None:
            raise typer.BadParameter("the random run takes --target NAME, and no name of its own")
        chosen = [_kind(one).name for text in only or () for one in text.split(",")]
        hit = [one for text in targets or () for one in text.split(",")]
        drawn = random.SystemRandom().randrange(10**6) if seed is None else seed
        order = _Order(drawn, for_, every, clients, chosen or list(KINDS), hit)
        run(lambda: _random(run_folder, order, show_plan, as_json))
    kind = _kind(fault)
    if name is None:
        raise typer.BadParameter(f"say whom it hits, as in `noyau chaos {kind.name} storage`")
    if name in OWN and name not in kind.own:
        raise typer.BadParameter(f"{kind.name} is for actors; {name} is none")
    lasts = float(requests) if counts(kind.name) else seconds
    step = Step(0.0, kind.name, name, lasts)
    if kind.how is not None:
        run(lambda: _spoil(run_folder, step, after, as_json))
    run(lambda: _one(run_folder, step, delay, mib, as_json))


def _kind(text: str) -> Kind:
    kind = KINDS.get(text.strip().replace("-", "_"))
    if kind is None:
        raise typer.BadParameter(f"there is no fault {text!r}; there are: {', '.join(KINDS)}")
    return kind


# --- one fault ------------------------------------------------------------------------------


async def _one(run_folder: RunFolder, step: Step, delay_s: float, mib: int, as_json: bool) -> int:
    check_here(run_folder)
    async with (
        Client.connect(run_folder) as client,
        Conductor(client, delay_s=delay_s, mib=mib) as conductor,
    ):
        fault = await conductor.inject(step)
        if fault is None:
            errors.print(f"[red]noyau:[/] {escape(conductor.observed.skipped[0])}", soft_wrap=True)
            return EXIT_ERROR
        until = time.monotonic() + PATIENCE_S + step.seconds
        with _display(as_json) as live:
            while not fault.over and time.monotonic() < until:
                if live is not None:
                    live.update(_waiting(fault), refresh=True)
                await asyncio.sleep(0.05)
        gone_on = conductor.let_go_on()
    if as_json:
        print(json.dumps(_fault_object(fault), indent=2))
    else:
        _tell(fault, gone_on)
    return 0 if fault.over else EXIT_ERROR


async def _spoil(run_folder: RunFolder, step: Step, after_tokens: int, as_json: bool) -> int:
    """Have an engine get its next answers wrong; what follows is seen by whoever asks."""
    check_here(run_folder)
    async with (
        Client.connect(run_folder) as client,
        Conductor(client, after_tokens=after_tokens) as conductor,
    ):
        entry = client.caller.directory.entries.get(step.target)
        if entry is None or not is_engine(entry):
            raise NotFound(f"there is no engine {step.target!r} that is ready; see `noyau status`")
        await conductor.inject(step)
    if as_json:
        known = {"fault": step.kind, "target": step.target, "answers": int(step.seconds)}
        print(json.dumps(known | {"after_tokens": after_tokens}, indent=2))
    else:
        count = int(step.seconds)
        answers = "answer" if count == 1 else f"{count} answers"
        typer.echo(
            f"{step.kind} {step.target}: its next {answers}, from token {after_tokens} on. Ask "
            "something: noyau ask --explain …"
        )
    return 0


def _waiting(fault: Fault) -> Text:
    since = time.monotonic() - fault.at
    noticed = f"noticed after {fault.detect_ms:.0f} ms" if fault.detect_ms is not None else "…"
    return Text(f"{fault.step.kind} {fault.step.target}: {since:.1f} s, {noticed}")


def _fault_object(fault: Fault) -> dict[str, Any]:
    return {
        "fault": fault.step.kind,
        "target": fault.step.target,
        "detect_ms": _rounded(fault.detect_ms),
        "recover_ms": _rounded(fault.recover_ms),
        "recovered": fault.over,
        "sign": fault.sign,
        "epoch": fault.epoch,
        "answered_by": fault.by,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _tell(fault: Fault, gone_on: Sequence[int]) -> None:
    step = fault.step
    noticed = (
        f"noticed after {fault.detect_ms:.0f} ms ({fault.sign})"
        if fault.detect_ms is not None
        else "nobody had to notice" if fault.over else "nobody noticed"
    )  # fmt: skip
    ended = (
        f"answered after {fault.recover_ms:.0f} ms"
        if fault.recover_ms is not None
        else f"did not answer within {PATIENCE_S + step.seconds:.0f} s"
    )
    typer.echo(f"{step.kind} {step.target}: {noticed}; {ended}.")
    if gone_on:
        errors.print("noyau: what still stood still was let go on (SIGCONT)", style="dim")


# --- the random run -------------------------------------------------------------------------


class _Order:
    """What the user wants of a random run."""

    def __init__(
        self, seed: int, seconds: float, every_s: float, clients: int, kinds: Sequence[str],
        named: Sequence[str],
    ) -> None:  # fmt: skip
        if every_s <= 0:
            raise typer.BadParameter("--every needs some time between two faults, as 1s")
        self.seed, self.seconds, self.every_s = seed, seconds, every_s
        self.clients, self.kinds, self.named = clients, kinds, named

    def plan(
        self, actors: Sequence[str], known: Sequence[str], engines: Sequence[str]
    ) -> list[Step]:
        """The faults. Raises `NotFound` for a name that there is not."""
        for name in self.named:
            if name not in known:
                raise NotFound(f"there is no process {name!r}; there are: {', '.join(known)}")
        return make_plan(
            self.seed, self.seconds, self.every_s, actors, self.kinds, self.named, engines
        )


async def _random(run_folder: RunFolder, order: _Order, show_plan: bool, as_json: bool) -> int:
    check_here(run_folder)
    async with Client.connect(run_folder) as client:
        found = await client.status()
        ready = [actor.name for actor in found.actors if actor.state is ActorState.READY]
        entries = client.caller.directory.entries
        engines = [name for name in ready if name in entries and is_engine(entries[name])]
        plan = order.plan(ready, [*(actor.name for actor in found.actors), *OWN], engines)
        if show_plan:
            _print_plan(order.seed, plan, as_json)
            return 0
        folder = run_folder or default_run_folder()
        work = Run(order.seed, order.seconds, order.clients, plan, folder)
        loop = asyncio.get_running_loop()
        # The second Ctrl-C is an ordinary one.
        loop.add_signal_handler(signal.SIGINT, _interrupt, work, loop)
        with _display(as_json) as live:
            report = await work.go(client, lambda seen: _show(seen, live))
    if as_json:
        print(json.dumps(as_object(report), indent=2))
    else:
        _console().print(as_tables(report))
    if report.interrupted:
        return EXIT_INTERRUPTED
    return 0 if report.held else EXIT_ERROR


def _interrupt(work: Run, loop: asyncio.AbstractEventLoop) -> None:
    work.interrupted.set()
    loop.remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _print_plan(seed: int, plan: Sequence[Step], as_json: bool) -> None:
    if as_json:
        steps = [
            {"at_s": s.at_s, "fault": s.kind, "target": s.target, "seconds": s.seconds}
            for s in plan
        ]
        print(json.dumps({"seed": seed, "plan": steps}, indent=2))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("at", "fault", "whom", "how long"):
        table.add_column(heading, header_style="dim")
    for step in plan:
        unit = "requests" if counts(step.kind) else "s"
        lasts = f"{step.seconds:g} {unit}" if step.seconds else ""
        table.add_row(f"{step.at_s:.1f} s", step.kind, step.target, lasts)
    _console().print(table)
    errors.print(f"seed {seed}: {len(plan)} faults", style="dim")


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


# --- while it runs --------------------------------------------------------------------------


@contextlib.contextmanager
def _display(as_json: bool) -> Any:
    """A line at the terminal that goes away at the end; None where nobody looks."""
    if as_json or not errors.is_terminal:
        yield None
        return
    with Live(console=errors, auto_refresh=False, transient=True) as live:
        yield live


def _show(work: Run, live: Live | None) -> None:
    if live is None or work.conductor is None:
        return
    account, observed = work.ledger.count(), work.conductor.observed
    waits = ", ".join(f"{f.step.kind} {f.step.target}" for f in observed.pending) or "none"
    since = time.monotonic() - work.began
    live.update(
        Text(
            f"{work.phase} · {since:.0f} of {work.seconds:.0f} s · {len(observed.faults)} of "
            f"{len(work.plan)} faults (not over: {waits}) · {account.answered} answered, "
            f"{account.typed_errors} errors"
        ),
        refresh=True,
    )
