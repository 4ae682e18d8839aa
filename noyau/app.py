"""The command's verbs, one file for each. A new verb is a file and a line here."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from noyau import ask, demo, down, restart, status, up

app = typer.Typer(
    name="noyau",
    help="A local AI runtime that keeps answering.\n\n"
    "Start it with [bold]noyau up[/], ask with [bold]noyau ask[/] in another terminal, and kill "
    "any of its processes while it answers: the answer goes on.",
    epilog="Exit codes: 0 done · 1 a typed error · 2 wrong usage · 3 noyau is not running · "
    "78 it cannot start with these settings · 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(up.up)
app.command()(ask.ask)
app.command()(status.status)
app.command()(restart.restart)
app.command()(down.down)
app.command()(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"noyau {version('noyau')}")
        raise typer.Exit


@app.callback()
def _common(
    show: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    del show
